"""Photographed objects whose colours are known by eye, to fit and to measure `model/evidence/colour.py` with.

Two kinds, both listed in `colour_labels.json`: cut-out objects, put on photographed backgrounds with an exposure and a
colour cast drawn at random; and boxes in photographs as they are. Labels are the words that a person accepts for the
main colour, written down from contact sheets before anything was measured; none where no colour is the main one.

The pixels come from Debian packages and from Python packages that include sample photographs, unpacked below one
folder, each under its name. Nothing of them is in this repository but paths, boxes and words.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.crops import SIDE, whole_pixels
from dynrefer.model.types import Corners

LABELS = Path(__file__).with_name("colour_labels.json")
_STAMPS = "tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
_VARIANTS = 6  # of a cut-out object; of a box in a photograph that is for fitting: as it is, and changed twice
_BOX_VARIANTS = 3
_BACKGROUND_SIDE = 640  # pixels of a background's long side

FIT, TEST = "fit", "test"


@dataclass(frozen=True, slots=True)
class Example:
    """One crop of one object.

    crop: (3, 224, 224) uint8 RGB. mask: (56, 56) float32 in [0, 1], the object's share of each cell, or None where it
    is not known. accepted: words for its colour, perhaps none. key: the object or photograph, of which all
    examples are in the same part. kind: "cut-out" or "photograph".
    """

    crop: NDArray[np.uint8]
    mask: NDArray[np.float32] | None
    accepted: tuple[str, ...]
    key: str
    name: str
    kind: str

    @property
    def part(self) -> str:
        return part_of(self.key)


def part_of(key: str) -> str:
    """A third of all objects, photographs and backgrounds is for the test alone."""
    return TEST if zlib.crc32(key.encode()) % 3 == 0 else FIT


def read_examples(packages: Path) -> Iterator[Example]:
    """packages: the folder with the unpacked packages. The same on every run."""
    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    backgrounds: dict[str, list[Image.Image]] = {FIT: [], TEST: []}
    for path in labels["backgrounds"]:
        image = Image.open(packages / path).convert("RGB")
        image.thumbnail((_BACKGROUND_SIDE, _BACKGROUND_SIDE))
        backgrounds[part_of(path)].append(image)
    for path, accepted in labels["stamps"].items():
        stamp = Image.open(packages / _STAMPS / path).convert("RGBA")
        key = _stem(path)
        for variant in range(_VARIANTS):
            rng = np.random.default_rng(zlib.crc32(f"{path} {variant}".encode()))
            crop, mask = _compose(stamp, backgrounds[part_of(key)], rng)
            yield Example(crop, mask, tuple(accepted), key, Path(path).stem, "cut-out")
    for number, box in enumerate(labels["boxes"]):
        image = Image.open(packages / box["file"]).convert("RGB")
        corners = tuple(side * share for side, share in zip((*image.size, *image.size), box["box"], strict=True))
        crop = _squeezed(image, corners)
        for variant in range(_BOX_VARIANTS if part_of(box["file"]) == FIT else 1):
            rng = np.random.default_rng(zlib.crc32(f"{number} {variant}".encode()))
            changed = crop if variant == 0 else _photograph(crop.transpose(1, 2, 0), rng).transpose(2, 0, 1)
            name = f"{Path(box['file']).stem} {number}"
            yield Example(changed, None, tuple(box["colours"]), box["file"], name, "photograph")


def _squeezed(image: Image.Image, box: Corners) -> NDArray[np.uint8]:
    """A box of an RGB image squeezed to a square, (3, 224, 224) uint8, without the tower's padding, as in serving."""
    crop = image.crop(whole_pixels(box, image.size)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))


def _stem(path: str) -> str:
    """Variants of one object ("cep-1", "cep-2") belong together."""
    return re.split(r"[-_0-9]", Path(path).stem)[0].lower() or path


def _compose(
    stamp: Image.Image, backgrounds: list[Image.Image], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Put a cut-out object on a background and cut its tight box: crop (3, 224, 224) uint8, mask (56, 56) float32."""
    stamp = stamp.crop(stamp.getchannel("A").point(lambda alpha: 255 * (alpha > 64)).getbbox())
    scale = rng.uniform(120, 380) / max(stamp.size)
    stamp = stamp.resize([max(8, round(side * scale)) for side in stamp.size], Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    room = [side + 24 for side in stamp.size]
    enlarged = max(1.0, *(need / side for need, side in zip(room, background.size, strict=True)))
    scene = background.resize([int(np.ceil(side * enlarged)) for side in background.size], Image.Resampling.BILINEAR)
    left, top = (int(rng.integers(side - need + 1)) + 12 for side, need in zip(scene.size, room, strict=True))
    scene.paste(stamp, (left, top), stamp.getchannel("A"))
    alpha = Image.new("L", scene.size)
    alpha.paste(stamp.getchannel("A"), (left, top))
    # People do not draw boxes to the pixel.
    width, height = stamp.size
    jitter = rng.uniform(-0.03, 0.04, 4)
    box = (
        left - jitter[0] * width,
        top - jitter[1] * height,
        left + width + jitter[2] * width,
        top + height + jitter[3] * height,
    )
    picture = _photograph(np.asarray(scene), rng)
    mask = _squeezed(Image.merge("RGB", [alpha] * 3), box)[0]
    cells = mask.reshape(56, SIDE // 56, 56, SIDE // 56).mean((1, 3), dtype=np.float32) / 255
    return _squeezed(Image.fromarray(picture), box), cells


def _photograph(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another exposure, a colour cast, uneven light, and JPEG. picture: (H, W, 3) uint8, returned likewise."""
    linear = (picture.astype(np.float32) / 255) ** 2.2
    warm, green = rng.normal(0, 0.10), rng.normal(0, 0.03)  # logarithms of the gains
    gains = rng.uniform(0.5, 1.3) * np.exp([warm, green, -warm])
    height, width = picture.shape[:2]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    across = np.linspace(-1, 1, width)[None, :] * np.cos(angle) + np.linspace(-1, 1, height)[:, None] * np.sin(angle)
    lit = linear * gains.astype(np.float32) * (1 + strength * across)[..., None].astype(np.float32)
    changed = (np.clip(lit, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
    coded = BytesIO()
    Image.fromarray(changed).save(coded, "JPEG", quality=int(rng.integers(60, 96)))
    return np.asarray(Image.open(coded).convert("RGB"))
