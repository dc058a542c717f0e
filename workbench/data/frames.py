"""In which frame the boxes of an image were drawn: on the upright image, or on the rows and columns as they are stored.

A phone stores an image as its sensor saw it, with an EXIF orientation that says how to turn it. Some tools show it
upright, some as it is stored, and some show one and list the size of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from dynrefer.model.errors import AnnotatedImageError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.orientation import stored_size, upright_box
from dynrefer.model.types import Corners, ImageInfo

_SLACK = 1.0  # pixels that a box may reach beyond its image, by rounding


class Frame(StrEnum):
    """AUTO: decided for each image by `is_stored`."""

    AUTO = "auto"
    UPRIGHT = "upright"
    STORED = "stored"


def is_stored(info: ImageInfo, listed: ImageSize | None, boxes: Iterable[Corners], frame: Frame) -> bool:
    """Whether the boxes of an image are those of the image as it is stored; False where the two are the same.

    By AUTO a box that lies inside only one of the two decides, whatever size is listed; else the listed size, if it is
    that of only one; else they are upright. listed: (width, height). boxes: xyxy pixels.
    Raises `AnnotatedImageError` for a listed size that is that of neither, and for boxes that contradict each other.
    """
    upright, stored = (info.width, info.height), stored_size(info)
    if listed is not None and listed not in (upright, stored):
        raise AnnotatedImageError("it is {} x {} pixels, but listed as {} x {}".format(*upright, *listed))
    if info.orientation == 1:
        return False
    if frame is not Frame.AUTO:
        return frame is Frame.STORED
    if upright == stored:  # turned by half, or square: nothing tells the frames apart
        return False
    proof: dict[bool, Corners] = {}
    for box in boxes:
        fits_upright, fits_stored = _inside(box, upright), _inside(box, stored)
        if fits_upright != fits_stored:
            proof.setdefault(fits_stored, box)
    if len(proof) == 2:
        raise AnnotatedImageError(
            f"its boxes contradict each other: {_written(proof[False])} lies inside the upright image only, "
            f"{_written(proof[True])} inside the image as it is stored only; correct one, or give --frame"
        )
    return True in proof if proof else listed == stored


def upright_boxes(boxes: Sequence[Corners], info: ImageInfo, *, stored: bool) -> tuple[Corners, ...]:
    """The boxes in the frame of the upright image. stored: as `is_stored` says."""
    return tuple(upright_box(box, info) for box in boxes) if stored else tuple(boxes)


def as_stored_sentence(count: int, source: str) -> str:
    """What to tell the user about images of which `is_stored` is true."""
    images = "1 image" if count == 1 else f"{count} images"
    return f"{images} of {source} read as stored: the boxes are in the frame before the EXIF orientation; see --frame."


def _inside(box: Corners, size: ImageSize) -> bool:
    x1, y1, x2, y2 = box
    return min(x1, y1) >= -_SLACK and x2 <= size[0] + _SLACK and y2 <= size[1] + _SLACK


def _written(box: Corners) -> str:
    return "({:g}, {:g}, {:g}, {:g})".format(*box)
