"""The outlines of a mask: what `polygons.py` undoes. No torch.

OpenCV and scikit-image trace outlines too, but are tens of megabytes that a client would have to install for this
alone; and theirs run through the centres of the outermost pixels, so that a polygon loses half a pixel all around.
These run along the pixels' edges: `polygon_bitmap` of all outlines, unsimplified, is the mask again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.masks import RegionMask, bitmap_from_mask
from dynrefer.model.polygons import ring_area

Points = NDArray[np.float64]


def mask_outlines(mask: RegionMask, tolerance: float = 1.0) -> list[tuple[float, ...]]:
    """The outer outline of every connected part of a mask (pixels connect by their sides), the largest first; holes are
    filled. Each is x, y, x, y, ... in pixels of the mask's frame.

    tolerance: pixels by which an outline may be off to have fewer corners; 0 keeps all. Empty for an empty mask. Raises
    `BoxError` as `bitmap_from_mask`.
    """
    bitmap, left, top = _cropped(bitmap_from_mask(mask))
    found = [_simplified(ring, tolerance) + (left, top) for ring, outer in rings_of(bitmap) if outer]
    return [tuple(ring.ravel().tolist()) for ring in sorted(found, key=lambda ring: -abs(ring_area(ring)))]


def simplified_outline(outline: Sequence[float], tolerance: float) -> tuple[float, ...]:
    """An outline, x, y, x, y, ..., with fewer corners; tolerance: as of `mask_outlines`."""
    return tuple(_simplified(np.array(outline, dtype=np.float64).reshape(-1, 2), tolerance).ravel().tolist())


def _cropped(bitmap: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int, int]:
    """The part with all pixels that are set, and its first column and row: large images hold small masks."""
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not rows.size:
        return bitmap[:0, :0], 0, 0
    top, left = int(rows[0]), int(columns[0])
    return bitmap[top : rows[-1] + 1, left : columns[-1] + 1], left, top


def rings_of(bitmap: NDArray[np.bool_]) -> list[tuple[Points, bool]]:
    """The closed lines between a mask's pixels, (H, W) bool, and others: (N, 2) corners x, y of each, without any that
    lie on a straight part, and whether it goes round a part and not round a hole.

    On a row of corners every second gap between neighbours is an edge, and in a column too. So each corner has one
    neighbour in its row and one in its column, and taking them in turn goes round.
    """
    padded = np.pad(bitmap, 1)
    parts = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    count = sum(part.astype(np.int8) for part in parts)
    crossing = (count == 2) & (parts[0] == parts[3])  # two pixels touch at a corner: it is one of two outlines
    ys, xs = np.nonzero((count % 2 == 1) | crossing)
    twice = crossing[ys, xs]
    ys, xs = np.repeat(ys, 1 + twice), np.repeat(xs, 1 + twice)
    copy = np.arange(len(ys)) - np.searchsorted(ys * padded.shape[1] + xs, ys * padded.shape[1] + xs)
    # The first copy has the edge to the left. Pixels do not connect by corners: it has the one upwards too where the
    # upper left pixel is set, else the one downwards.
    upwards = np.where(parts[0][ys, xs] | ~crossing[ys, xs], copy, 1 - copy)
    across = _neighbours(np.lexsort((copy, xs, ys)))
    along = _neighbours(np.lexsort((upwards, ys, xs)))
    points, rings = np.stack([xs, ys], axis=1), []
    for ring in _cycles(across.tolist(), along.tolist()):
        first_x, first_y = xs[ring[0]], ys[ring[0]]  # the uppermost, and of those the leftmost
        rings.append((points[ring].astype(np.float64), bool(parts[3][first_y, first_x])))
    return rings


def _neighbours(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of corners in an order in which neighbours stand in pairs, each one's neighbour."""
    found = np.empty_like(order)
    found[order[0::2]], found[order[1::2]] = order[1::2], order[0::2]
    return found


def _cycles(across: Sequence[int], along: Sequence[int]) -> list[list[int]]:
    seen, cycles = [False] * len(across), []
    for first in range(len(across)):
        if seen[first]:
            continue
        cycle, at = [], first
        while not seen[at]:
            seen[at] = seen[across[at]] = True
            cycle += [at, across[at]]
            at = along[across[at]]
        cycles.append(cycle)
    return cycles


def _simplified(ring: Points, tolerance: float) -> Points:
    """A closed line with fewer corners (Ramer, Douglas and Peucker), at least three."""
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    far = int(np.argmax(np.abs(ring - ring[0]).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), dtype=bool)
    kept[[0, far]] = True
    waiting = [(0, far), (far, len(ring))]
    while waiting:
        start, end = waiting.pop()
        if end - start < 2:
            continue
        distances = _distances(closed[start + 1 : end], closed[start], closed[end])
        worst = int(np.argmax(distances))
        if distances[worst] > tolerance:
            middle = start + 1 + worst
            kept[middle] = True
            waiting += [(start, middle), (middle, end)]
    simple = ring[kept[:-1]]
    return simple if len(simple) >= 3 and abs(ring_area(simple)) > 0 else ring


def _distances(points: Points, start: Points, end: Points) -> Points:
    """Of (N, 2) points from the line through two others; from the point, where those are one."""
    along = end - start
    length = float(np.hypot(*along))
    if length == 0:
        return np.asarray(np.hypot(*(points - start).T))
    offsets = points - start
    return np.asarray(np.abs(along[0] * offsets[:, 1] - along[1] * offsets[:, 0]) / length)
