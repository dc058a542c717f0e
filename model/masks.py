"""The mask of a region: which pixels of the image belong to it. No torch, no NumPy at import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.errors import BoxError
from dynrefer.model.records import JsonRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RegionMask(JsonRecord):
    """A mask as COCO's compressed run lengths, down the columns, background first.

    size: (height, width) of the upright image. counts: the compressed text.
    """

    size: tuple[int, int]
    counts: str


def bitmap_from_mask(mask: RegionMask) -> NDArray[np.bool_]:
    """The mask's pixels, (H, W) bool. Raises `BoxError` for run lengths that do not fill its size."""
    import numpy as np

    from dynrefer.model.geometry import rle_runs

    height, width = mask.size
    runs = rle_runs(mask.counts)
    if runs.sum() != height * width:
        raise BoxError(f"The run lengths of the mask do not fill its {width} x {height} pixels.")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def mask_from_bitmap(bitmap: NDArray[np.bool_]) -> RegionMask:
    """Write a mask, (H, W) bool, as run lengths; `geometry.rle_runs` reads them and says what the text means."""
    import numpy as np

    flat = np.asarray(bitmap).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    if flat[0]:
        runs.insert(0, 0)
    written: list[str] = []
    for place, run in enumerate(runs):
        rest, more = run - (runs[place - 2] if place > 2 else 0), True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            written.append(chr(48 + digit + 32 * more))
    height, width = bitmap.shape
    return RegionMask((height, width), "".join(written))
