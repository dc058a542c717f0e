"""What a region may be pointed at with beside a box: a polygon, a scribble or a mask. No torch, no NumPy at import.

Each gives the region's box as the official code does: the bounds of polygons and scribbles, widened to one pixel; the
first and last pixel of masks. Where the region is to be highlighted it gives the mask too. Points, which need a
segmenter, are in `points.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.errors import BoxError, PromptError
from dynrefer.model.masks import RegionMask

if TYPE_CHECKING:
    from dynrefer.model.run_lengths import Bitmap
    from dynrefer.model.types import Corners

MOST_RUNS = 1 << 19  # of a mask that is kept: sixteen times what a finely cut object has in a large photograph


@dataclass(frozen=True, slots=True)
class Polygon:
    """rings: each x, y, x, y, ... in pixels, filled one by one and joined."""

    rings: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Scribble:
    """lines: each x, y, x, y, ... in pixels."""

    lines: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class MaskFile:
    """png: the bytes of a file of the image's size. Pixels of more than half brightness belong to the region."""

    png: bytes


@dataclass(frozen=True, slots=True)
class AlphaMask:
    """What the image's own alpha channel shows."""


@dataclass(frozen=True, slots=True)
class AlphaOrWhole(AlphaMask):
    """The same where the alpha channel hides something; the whole image where nothing is hidden, or there is none."""


Prompt = Polygon | Scribble | RegionMask | MaskFile | AlphaMask


def placed(
    prompt: Prompt, size: tuple[int, int], alpha: RegionMask | None = None, *, highlight: bool = False
) -> tuple[Corners, Bitmap | None]:
    """The box of a prompt, xyxy pixels, which may reach beyond the image, and with `highlight` its pixels, (H, W) bool.

    size: (width, height) of the image, in the frame of the prompt's coordinates. alpha: of the image, in that frame.
    Raises `PromptError`, whose field says where in the region, for what gives no region.
    """
    from dynrefer.model.polygons import polygon_bitmap, polygon_box, scribble_box

    if isinstance(prompt, Polygon):
        box = polygon_box(prompt.rings, size)
        return box, _kept(polygon_bitmap(prompt.rings, size), "polygon") if highlight else None
    if isinstance(prompt, Scribble):
        if highlight:
            raise PromptError(
                "A scribble cannot be highlighted: it says nothing of where the object ends.", "highlight"
            )
        return scribble_box(prompt.lines, size), None
    if isinstance(prompt, RegionMask):
        return _box_and_bitmap(prompt, size, highlight)
    if isinstance(prompt, AlphaOrWhole) and (alpha is None or _hides_nothing(alpha)):
        return (0.0, 0.0, float(size[0]), float(size[1])), None
    if isinstance(prompt, AlphaMask):
        return _box_and_bitmap(_shown(alpha), size, highlight)
    from dynrefer.model.mask_files import mask_of_png

    return _box_and_bitmap(mask_of_png(prompt.png, size), size, highlight, "mask/png")


def _shown(alpha: RegionMask | None) -> RegionMask:
    if alpha is None:
        raise PromptError("The image has no alpha channel; send the mask as a PNG or as run lengths.", "mask")
    if _hides_nothing(alpha):
        raise PromptError(
            "The image's alpha channel is opaque everywhere (no pixel is less than half so), and shows no region.",
            "mask",
        )
    return alpha


def _hides_nothing(alpha: RegionMask) -> bool:
    return len(alpha.counts) < 16 and (runs := _runs(alpha))[:1] == [0] and len(runs) == 2


def _runs(mask: RegionMask) -> list[int]:
    from dynrefer.model.run_lengths import rle_runs

    runs: list[int] = rle_runs(mask.counts).tolist()
    return runs


def _box_and_bitmap(
    mask: RegionMask, size: tuple[int, int], highlight: bool, field: str = "mask"
) -> tuple[Corners, Bitmap | None]:
    from dynrefer.model.run_lengths import bitmap_of_runs, box_of_runs, rle_runs

    width, height = size
    if mask.size != (height, width):
        swapped = " COCO's size is [height, width]." if mask.size == (width, height) else ""
        raise PromptError(
            f"The mask has {mask.size[1]} x {mask.size[0]} pixels, and the image {width} x {height}: they must be the "
            f"same, in the request's orientation.{swapped}",
            "mask/size",
        )
    try:
        runs = rle_runs(mask.counts)
        box = box_of_runs(runs, height, width)
    except BoxError as error:
        raise PromptError(str(error), field) from error
    if not highlight:
        return box, None
    if len(runs) > MOST_RUNS:
        raise PromptError(f"The mask has {len(runs)} runs; at most {MOST_RUNS} can be highlighted.", field)
    return box, bitmap_of_runs(runs, height, width)


def _kept(bitmap: Bitmap, field: str) -> Bitmap:
    if not bitmap.any():
        raise PromptError("The polygon holds no pixel's centre, so that nothing would be left to highlight.", field)
    return bitmap
