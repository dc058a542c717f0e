"""Masks as COCO's run lengths: the compressed text, the runs, the pixels and the box of each. No torch.

The runs go down the columns and begin with background. Compressed, each run is base-32 digits, least significant
first, from the character "0" on: bit 5 means that more digits follow, bit 4 of the last digit is the sign. From the
fourth run on, the difference to the run two before is stored. Source: COCO's `maskApi.c`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import BoxError
from dynrefer.model.types import Corners

Bitmap = NDArray[np.bool_]

MOST_RUN_BITS = 40  # of one compressed run length: more pixels than any image has
DIGIT_BITS, MORE, SIGN = 5, 32, 16
FIRST_CHARACTER = 48
MOST_DIGITS = MOST_RUN_BITS // DIGIT_BITS + 1
FIRST_DIFFERENCE = 3  # from this run on, the difference to the run two before is stored


def rle_runs(counts: str | bytes | Sequence[int]) -> NDArray[np.int64]:
    """Read the run lengths of a COCO mask, (N,) int64; a list is taken as it is.

    Raises:
        BoxError: the string is malformed or breaks off inside a run.
    """
    if not isinstance(counts, str | bytes):
        return np.array(counts, dtype=np.int64)
    text = counts if isinstance(counts, bytes) else counts.encode("utf-8", "surrogatepass")
    digits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - FIRST_CHARACTER
    if np.any((digits < 0) | (digits >= 2 * MORE)):
        raise BoxError("The compressed run lengths of the mask are malformed.")
    if not digits.size:
        return digits
    ends = np.flatnonzero(digits < MORE)
    lengths = np.diff(ends, prepend=-1)
    if lengths.size and lengths.max() > MOST_DIGITS:
        raise BoxError("The compressed run lengths of the mask are malformed.")
    if not ends.size or ends[-1] != len(digits) - 1:
        raise BoxError("The compressed run lengths of the mask are truncated.")
    places = np.arange(len(digits)) - np.repeat(ends - lengths + 1, lengths)
    values = np.add.reduceat((digits & (MORE - 1)) << (DIGIT_BITS * places), ends - lengths + 1)
    negative = (digits[ends] & SIGN) > 0
    runs = values - np.where(negative, np.int64(1) << (DIGIT_BITS * lengths), 0)
    # Sums of differences, of every second run; the first three stand as they are.
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def compressed_runs(runs: NDArray[np.int64]) -> str:
    """The compressed text of run lengths, (N,) int64, as COCO writes it."""
    stored = runs.copy()
    stored[FIRST_DIFFERENCE:] -= runs[1:-2]
    columns, alive = [], np.ones(len(stored), dtype=bool)
    while alive.any():
        digit = stored & (MORE - 1)
        stored = stored >> DIGIT_BITS
        more = alive & (stored != np.where(digit & SIGN, -1, 0))
        columns.append(np.where(alive, (digit | np.where(more, MORE, 0)) + FIRST_CHARACTER, 0))
        alive = more
    if not columns:
        return ""
    characters = np.stack(columns, axis=1).ravel()
    return characters[characters > 0].astype(np.uint8).tobytes().decode("ascii")


def runs_of_bitmap(bitmap: Bitmap) -> NDArray[np.int64]:
    """The run lengths of (H, W) bool, (N,) int64."""
    flat = np.ascontiguousarray(bitmap.T).reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([changes, [flat.size]])
    runs = np.diff(edges, prepend=0)
    return np.concatenate([[0], runs]) if flat.size and flat[0] else runs


def bitmap_of_runs(runs: NDArray[np.int64], height: int, width: int) -> Bitmap:
    """(H, W) bool of run lengths.

    Raises:
        BoxError: the runs do not fill the size.
    """
    edges = _edges(runs, height, width)
    flat = np.zeros(height * width, dtype=bool)
    starts, ends = edges[0::2][: edges.size // 2], edges[1::2]
    if 32 * len(starts) < flat.size:  # slices are faster than marks where there are few
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            flat[start:end] = True
    else:
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def box_of_runs(runs: NDArray[np.int64], height: int, width: int) -> Corners:
    """The first and last column and row of a mask, both inclusive (official rule).

    To a mask of one column or row the official rule gives an empty box; here it gets the one pixel that it covers.

    Raises:
        BoxError: the mask is empty, or its runs do not fill its size.
    """
    edges = _edges(runs, height, width)
    starts, ends = edges[0::2][: edges.size // 2], edges[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts] - 1
    if not starts.size:
        raise BoxError("The mask is empty: it needs at least one pixel.")
    x1, x2 = starts.min() // height, ends.max() // height
    if np.any(starts // height != ends // height):  # a run over a column's end holds its last row and row 0
        y1, y2 = 0, height - 1
    else:
        y1, y2 = (starts % height).min(), (ends % height).max()
    return float(x1), float(y1), float(max(x2, x1 + 1)), float(max(y2, y1 + 1))


def box_from_rle(rle: Mapping[str, Any]) -> Corners:
    """`box_of_runs` of {"size": [height, width], "counts": compressed string or bytes, or a list of run lengths}."""
    height, width = (int(side) for side in rle["size"])
    return box_of_runs(rle_runs(rle["counts"]), height, width)


def _edges(runs: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """The place behind each run, counted down the columns."""
    edges = np.cumsum(runs)
    if not edges.size or edges[-1] != height * width or np.any(runs < 0) or np.any(np.diff(edges) < 0):
        raise BoxError(f"The run lengths of the mask do not fill its {width} x {height} pixels.")
    return edges
