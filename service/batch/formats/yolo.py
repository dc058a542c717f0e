"""YOLO's text files: beside each image, or in a folder `labels`, one line per object: class, centre and size as parts
of the image's, or the corners of a polygon.

Source of the format: https://docs.ultralytics.com/datasets/detect/ and /datasets/segment/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dynrefer.service.batch.answers import Answers, described_regions, name_of
from dynrefer.service.batch.box_table import number_of
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Item, image_files, link_image, path_inside

_NAMES = ("classes.txt", "obj.names", "predefined_classes.txt")
_BOX, _BOX_WITH_CONFIDENCE, _SMALLEST_POLYGON = 5, 6, 7  # values of a line


@dataclass(frozen=True)
class YoloSource:
    """images: their folder. labels: where the text files are, besides the places that YOLO itself looks at."""

    images: Path
    labels: Path | None = None
    format: str = "yolo"

    def items(self) -> Iterator[Item]:
        """See `ItemSource`. Images without a line are left out."""
        for image in image_files(self.images):
            name = image.relative_to(self.images)
            if (found := label_file(self.images, name, self.labels)) is not None:
                item = _item(name.as_posix(), image, found, self._names)
                if item.num_regions or item.flaw:
                    yield item

    @cached_property
    def _names(self) -> Mapping[int, str]:
        """The classes' names; empty where no file has them."""
        places = [each for each in (self.labels, self.images, self.images.parent) if each is not None]
        if self.labels is not None:
            places.append(self.labels.parent)
        return next((found for place in places if (found := class_names(place))), {})


def label_file(images: Path, name: Path, labels: Path | None = None) -> Path | None:
    """The text file of an image, name: of the image in the folder; None where there is none."""
    text = name.with_suffix(".txt")
    places = [images / text, _beside_images(images / text)]
    if labels is not None:
        places = [labels / text, labels / "labels" / text, _beside_images(labels / text), labels / text.name]
    return next((place for place in places if place.is_file()), None)


def _beside_images(path: Path) -> Path:
    """With the last folder `images` of the path replaced by `labels`, as YOLO finds the text file of an image."""
    parts = list(path.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts)


def class_names(folder: Path) -> dict[int, str]:
    """By the files that YOLO's tools write; empty where there is none."""
    import yaml

    for name in _NAMES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            return {place: line.strip() for place, line in enumerate(lines) if line.strip()}
    for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BatchError(f"{file} is not YAML: {str(error).splitlines()[0]}.") from None
        names = document.get("names") if isinstance(document, dict) else None
        if isinstance(names, list):
            return {place: str(each) for place, each in enumerate(names)}
        if isinstance(names, dict):
            return {int(place): str(each) for place, each in names.items() if str(place).isdigit()}
    return {}


def is_label_line(line: str) -> bool:
    """Whether it could be an object's."""
    values = line.split()
    numbers = [number_of(value) for value in values]
    return len(values) >= _BOX and all(number == number for number in numbers) and values[0].isdigit()


def _item(name: str, image: Path, file: Path, names: Mapping[int, str]) -> Item:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return Item(name, image, flaw=f"{file.name} cannot be read as text.")
    regions: list[dict[str, Any]] = []
    labels: list[str | None] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not is_label_line(line):
            return Item(name, image, flaw=f"{file.name}, line {number} is not a class and a box or polygon.")
        values = line.split()
        numbers = [number_of(value) for value in values[1:]]
        if len(values) >= _SMALLEST_POLYGON:
            regions.append({"id": str(len(regions)), "polygon": [numbers]})
        else:  # a sixth value is the confidence of whoever found it
            regions.append({"id": str(len(regions)), "box": numbers[:4]})
        labels.append(names.get(int(values[0]), values[0]))
    request = {"box_format": "cxcywh", "coordinates": "unit", "regions": regions}
    return Item(name, image, request, tuple(labels))


def write_yolo(folder: Path, answers: Answers) -> None:
    """A data set as Ultralytics lays it out: `data.yaml`, `labels/` and, with links to the images, `images/`.

    folder: is there, and empty.
    """
    import yaml

    names = sorted({name_of(region) for line in answers.lines() for region in described_regions(line)})
    places = {name: place for place, name in enumerate(names)}
    for line in answers.lines():
        width, height = line["image"]["width"], line["image"]["height"]
        text = "".join(
            f"{places[name_of(region)]} {_in_parts(region['box'], width, height)}\n"
            for region in described_regions(line)
        )
        name = path_inside(line["file"])
        labels = folder / "labels" / name.with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text, encoding="utf-8")
        link_image(answers.images / line["file"], folder / "images" / name)
    document = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _in_parts(box: list[float], width: int, height: int) -> str:
    x1, y1, x2, y2 = box
    values = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
    return " ".join(f"{value:.8g}" for value in values)
