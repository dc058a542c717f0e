"""Small inputs of batch runs."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (64, 48)  # width, height


def make_images(folder: Path, count: int, kind: str = "png") -> list[Path]:
    """So many images, each of a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{place:04}.{kind}" for place in range(count)]
    for place, file in enumerate(files):
        Image.new("RGB", SIZE, (place % 256, place // 256, 7)).save(file)
    return files


def write_requests(file: Path, requests: list[dict[str, Any]]) -> Path:
    """A line per request."""
    file.write_text("".join(json.dumps(each) + "\n" for each in requests), encoding="utf-8")
    return file


def many_requests(folder: Path, count: int) -> Path:
    """So many requests about few images, with two regions each, all different."""
    images = make_images(folder / "images", 8)
    return write_requests(
        folder / "requests.jsonl",
        [
            {
                "image": f"images/{images[place % len(images)].name}",
                "id": place,
                "regions": [{"box": [place % 30, 3, place % 30 + 20, 40]}, {"box": [1, 2, 9 + place / 100, 30]}],
            }
            for place in range(count)
        ],
    )


def lines_of(file: Path) -> list[dict[str, Any]]:
    """The parsed lines of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
