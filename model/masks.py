"""The mask of a region: which pixels of the image belong to it. No torch, and no NumPy at import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.records import JsonRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dynrefer.model.types import Corners


@dataclass(frozen=True, slots=True)
class RegionMask(JsonRecord):
    """A mask as COCO's compressed run lengths, down the columns, background first.

    size: (height, width) of the upright image. counts: the compressed text.
    """

    size: tuple[int, int]
    counts: str


def mask_from_bitmap(bitmap: NDArray[np.bool_]) -> RegionMask:
    """Write a mask, (H, W) bool, as run lengths."""
    from dynrefer.model.run_lengths import compressed_runs, runs_of_bitmap

    height, width = bitmap.shape
    return RegionMask((height, width), compressed_runs(runs_of_bitmap(bitmap)))


def bitmap_from_mask(mask: RegionMask) -> NDArray[np.bool_]:
    """The mask's pixels, (H, W) bool. Raises `BoxError` for counts that are malformed or do not fill its size."""
    from dynrefer.model.run_lengths import bitmap_of_runs, rle_runs

    return bitmap_of_runs(rle_runs(mask.counts), *mask.size)


def box_from_mask(mask: RegionMask) -> Corners:
    """First and last column and row, xyxy, the last ones INCLUSIVE (official rule); at least one pixel.

    Raises `BoxError` for an empty mask, and as `bitmap_from_mask`.
    """
    from dynrefer.model.run_lengths import box_of_runs, rle_runs

    return box_of_runs(rle_runs(mask.counts), *mask.size)
