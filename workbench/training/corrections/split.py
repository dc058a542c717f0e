"""Which corrections a model learns from, which calibrate it, and which it is compared on: a matter of the image alone.

An image's place follows from its digest, so that it has the same one in every later run, whatever was corrected since:
what was held out once never becomes something to learn from. Regions of one image are never in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dynrefer.workbench.data.corrections import Correction

HELD_OUT = 0.25  # of the images
CALIBRATION = 0.2  # of the images that are not held out
_DIGITS = 8  # hexadecimal, of the digest


class Part(StrEnum):
    """What a corrected image is for."""

    TRAINING = "training"
    CALIBRATION = "calibration"
    HELD_OUT = "held out"


@dataclass(frozen=True)
class Split:
    """The corrections of each part, in the order of the folder."""

    training: tuple[Correction, ...]
    calibration: tuple[Correction, ...]
    held_out: tuple[Correction, ...]

    def sentence(self) -> str:
        """How many regions and images each part has."""
        parts = ((Part.TRAINING, self.training), (Part.CALIBRATION, self.calibration), (Part.HELD_OUT, self.held_out))
        told = (f"{part.value}: {len(some)} regions of {_images(some)} images" for part, some in parts)
        return "; ".join(told)


def part_of(digest: str, held_out: float = HELD_OUT) -> Part:
    """The part of an image. digest: hexadecimal. held_out: proportion of the images, 0 to 1."""
    place = int(digest[:_DIGITS], 16) / 16**_DIGITS
    if place < held_out:
        return Part.HELD_OUT
    return Part.CALIBRATION if place < held_out + CALIBRATION * (1 - held_out) else Part.TRAINING


def split_corrections(corrections: Sequence[Correction], held_out: float = HELD_OUT) -> Split:
    """Every region in the part of its image."""
    parts: dict[Part, list[Correction]] = {part: [] for part in Part}
    for each in corrections:
        parts[part_of(each.digest, held_out)].append(each)
    return Split(tuple(parts[Part.TRAINING]), tuple(parts[Part.CALIBRATION]), tuple(parts[Part.HELD_OUT]))


def _images(corrections: Sequence[Correction]) -> int:
    return len({each.digest for each in corrections})
