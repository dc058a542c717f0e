"""Makes the sample images of the playground, `service/playground/static/samples`: two drawn scenes and photographs of
`benchmarks/photographs`, with their credits and the regions that are described when one is opened.

    python -m dynrefer.workbench.scenes.playground_samples

The scenes are of the split `test`, so no training has seen them. Of the photographs, the
licences are read from `labels.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "benchmarks" / "photographs"
SAMPLES = ROOT / "service" / "playground" / "static" / "samples"
MAX_SIDE = 640  # pixels
MAX_BYTES = 60_000
ARTWORK = "free icon artwork, listed in NOTICE"
ARTWORK_LICENCES = "Apache-2.0, MIT and CC-BY-4.0"

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Photograph:
    """A file of `benchmarks/photographs`. regions: xyxy, pixels of the stored file."""

    file: str
    title: str
    alt: str
    credit: str
    regions: tuple[Box, ...]


@dataclass(frozen=True)
class DrawnScene:
    """A scene of the split `test`. objects: which of its objects are described, by index."""

    seed: int
    name: str
    title: str
    alt: str
    objects: tuple[int, ...]


SCENES_AND_PHOTOGRAPHS: tuple[Photograph | DrawnScene, ...] = (
    Photograph(
        "tourist.jpg",
        "Tourist",
        "A person with long hair, seen from behind, holds up a phone to photograph a building",
        "rawpixel.com",
        ((308, 190, 401, 258), (75, 90, 640, 427)),
    ),
    DrawnScene(5011, "sand", "Sand", "A drawing: objects on sand, among them a rocket and an umbrella", (0, 1, 2)),
    Photograph(
        "cat-mug.jpg",
        "Desk with a cat",
        "A grey and white cat sleeps on a desk behind a white mug",
        "Kivy Team and other contributors",
        ((60, 183, 306, 354), (402, 0, 640, 150)),
    ),
    Photograph(
        "two-dogs.jpg",
        "Two dogs",
        "Two brown dogs look out of a wooden shed",
        "Aitzol Berasategi",
        ((128, 149, 222, 270), (199, 284, 286, 421)),
    ),
    DrawnScene(5004, "brick-wall", "Brick wall", "A drawing: a fox's head and other objects on a brick wall", (0, 1)),
    Photograph(
        "cocktail.jpg",
        "Beach",
        "A red cocktail in a glass on a beach",
        "Public Domain Pictures",
        ((196, 64, 306, 450),),
    ),
)


def main() -> None:
    """Write all samples and `samples.json`."""
    SAMPLES.mkdir(parents=True, exist_ok=True)
    labels = {entry["file"]: entry for entry in json.loads((PHOTOGRAPHS / "labels.json").read_text(encoding="utf-8"))}
    world, sprites = World.load(), SpritePack.load()
    written = [
        _photograph(sample, labels[sample.file]) if isinstance(sample, Photograph) else _scene(sample, world, sprites)
        for sample in SCENES_AND_PHOTOGRAPHS
    ]
    text = json.dumps(written, ensure_ascii=False, indent=2)
    (SAMPLES / "samples.json").write_text(text + "\n", encoding="utf-8")


def _photograph(sample: Photograph, label: dict[str, object]) -> dict[str, object]:
    path = SAMPLES / sample.file
    with Image.open(PHOTOGRAPHS / sample.file) as image:
        width, height = image.size
        if max(width, height) > MAX_SIDE:
            raise ValueError(f"{sample.file} is larger than {MAX_SIDE} pixels")
        image.save(path, quality=85, optimize=True, progressive=True)
    return _entry(
        sample.file, sample.title, sample.alt, (width, height), "photograph", sample.credit, str(label["licence"]),
        [list(box) for box in sample.regions],
    )  # fmt: skip


def _scene(sample: DrawnScene, world: World, sprites: SpritePack) -> dict[str, object]:
    scene = draw_scene(world, sprites, sample.seed, "test")
    image = Image.fromarray(scene.image)
    file = f"{sample.name}.webp"
    image.save(SAMPLES / file, quality=90, method=6)
    boxes = [[round(value) for value in scene.objects[index].box] for index in sample.objects]
    return _entry(file, sample.title, sample.alt, image.size, "drawing", ARTWORK, ARTWORK_LICENCES, boxes)


def _entry(
    file: str,
    title: str,
    alt: str,
    size: tuple[int, int],
    kind: str,
    credit: str,
    licence: str,
    regions: list[list[int]],
) -> dict[str, object]:
    if (SAMPLES / file).stat().st_size > MAX_BYTES:
        raise ValueError(f"{file} is larger than {MAX_BYTES} bytes")
    return {
        "id": file.split(".")[0],
        "file": file,
        "title": title,
        "alt": alt,
        "width": size[0],
        "height": size[1],
        "kind": kind,
        "credit": credit,
        "licence": licence,
        "regions": regions,
    }


if __name__ == "__main__":
    main()
