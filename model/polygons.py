"""Polygons and scribbles: what is wrong with them, their box and their pixels. No torch.

A ring is COCO's flat list x, y, x, y, ..., closed by itself, in pixels, x to the right, y down. Several rings are
filled one by one and joined, as COCO does; they cut no holes.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import PromptError
from dynrefer.model.geometry import ImageSize, box_from_polygons
from dynrefer.model.run_lengths import Bitmap
from dynrefer.model.types import Corners

Ring = Sequence[float]

LEAST_CORNERS, LEAST_STROKE = 3, 2  # points of a ring, and of a scribble's line
LEAST_AREA = 1e-9  # of a ring, in squares of its longer side
PAIRS_AT_ONCE = 1 << 18  # of edges that are compared
CROSSINGS_AT_ONCE = 1 << 20  # of edges with rows of pixels


def polygon_box(rings: Sequence[Ring], size: ImageSize) -> Corners:
    """The box of a polygon, by the official rule (`box_from_polygons`); it may reach beyond the image.

    Raises:
        PromptError: no ring, a ring of fewer than three points, without area or crossing itself, a number that is not
            finite, coordinates that are all within 0..1, or nothing inside the image of `size` pixels.
    """
    _check(rings, "polygon", "ring", LEAST_CORNERS, size)
    for number, ring in enumerate(rings):
        name = "The polygon" if len(rings) == 1 else f"Ring {number} of the polygon"
        points = np.array(ring, dtype=np.float64).reshape(-1, 2)
        points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
        crossing = _crossing(points) if len(points) >= LEAST_CORNERS else None
        if crossing is not None:
            raise PromptError(
                f"{name} crosses itself near ({crossing[0]:.4g}, {crossing[1]:.4g}); send it as several rings or as a "
                "mask.",
                "polygon",
            )
        if (
            len(points) < LEAST_CORNERS
            or abs(ring_area(points)) <= LEAST_AREA * float(np.ptp(points, axis=0).max()) ** 2
        ):
            raise PromptError(f"{name} has no area: its points lie on one line.", "polygon")
    return box_from_polygons(rings)


def scribble_box(lines: Sequence[Ring], size: ImageSize) -> Corners:
    """The box of a scribble, as a polygon's. Raises `PromptError` as `polygon_box` does, for lines of two points on."""
    _check(lines, "scribble", "line", LEAST_STROKE, size)
    return box_from_polygons(lines)


def polygon_bitmap(rings: Sequence[Ring], size: ImageSize) -> Bitmap:
    """The pixels whose centres lie in one of the rings, (H, W) bool; size: (W, H)."""
    width, height = size
    bitmap = np.zeros((height, width), dtype=bool)
    for ring in rings:
        points = np.array(ring, dtype=np.float64).reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        left, top = (int(value) for value in np.clip(np.floor(low), 0, size))
        right, bottom = (int(value) for value in np.clip(np.ceil(high), 0, size))
        if left < right and top < bottom:
            part = bitmap[top:bottom, left:right]
            part |= _filled(points - (left, top), part.shape)
    return bitmap


def _check(lines: Sequence[Ring], what: str, part: str, least: int, size: ImageSize) -> None:
    if not lines:
        raise PromptError(f"The {what} is empty.", what)
    try:
        values = [float(value) for line in lines for value in line]
    except (TypeError, ValueError):
        raise PromptError(
            f"A {part} of the {what} is a row of numbers, x, y, x, y, and not of anything else.", what
        ) from None
    if not all(map(math.isfinite, values)):
        raise PromptError(f"The {what} has a coordinate that is not a finite number.", what)
    if any(len(line) % 2 or len(line) < 2 * least for line in lines):
        raise PromptError(f"A {part} of the {what} needs at least {least} points, each an x and a y.", what)
    xs, ys = values[0::2], values[1::2]
    width, height = size
    if all(0 <= value <= 1 for value in values):
        raise PromptError(f"The {what} is less than one pixel.", what)
    if max(xs) <= 0 or min(xs) >= width or max(ys) <= 0 or min(ys) >= height:
        raise PromptError(f"The {what} covers nothing of the image of {width} x {height} pixels.", what)


def ring_area(points: NDArray[np.float64]) -> float:
    """Of a ring of (N, 2) points, with the sign of its direction."""
    centred = points - points[0]
    following = np.roll(centred, -1, axis=0)
    return float((centred[:, 0] * following[:, 1] - following[:, 0] * centred[:, 1]).sum() / 2)


def _crossing(points: NDArray[np.float64]) -> tuple[float, float] | None:
    """Where two edges of a ring, (N, 2), cross each other in their interiors; None where none do. Edges may touch."""
    starts, ends = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(starts, ends), np.maximum(starts, ends)
    rows = max(1, PAIRS_AT_ONCE // len(points))
    for first in range(0, len(points), rows):
        part = slice(first, first + rows)
        near = np.all(low[part, None] < high[None], axis=2) & np.all(low[None] < high[part, None], axis=2)
        one, other = np.nonzero(near)
        one += first
        one, other = one[one < other], other[one < other]
        a, b, c, d = starts[one], ends[one], starts[other], ends[other]
        apart = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
        if apart.any():
            at = int(np.argmax(apart))
            share = _side(c[at], d[at], a[at]) / (_side(c[at], d[at], a[at]) - _side(c[at], d[at], b[at]))
            x, y = (a[at] + share * (b[at] - a[at])).tolist()
            return x, y
    return None


def _side(a: NDArray[np.float64], b: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """On which side of the line from a to b a point lies, by the sign."""
    value = (b[..., 0] - a[..., 0]) * (point[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        point[..., 0] - a[..., 0]
    )
    return np.asarray(value)


def _filled(points: NDArray[np.float64], shape: tuple[int, ...]) -> Bitmap:
    """The pixels of (h, w) whose centres lie inside of a ring (N, 2), by the even-odd rule."""
    height, width = shape
    starts, ends = points, np.roll(points, -1, axis=0)
    up = starts[:, 1] > ends[:, 1]
    upper, lower = np.where(up[:, None], ends, starts), np.where(up[:, None], starts, ends)
    # The rows whose centres an edge passes: from its upper end, included, to its lower end, excluded.
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    behind = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    toggles = np.zeros((height, width + 1), dtype=np.uint8)
    edges_at_once = max(1, CROSSINGS_AT_ONCE // height)
    for at in range(0, len(points), edges_at_once):
        part = slice(at, at + edges_at_once)
        counts = np.maximum(behind[part] - first[part], 0)
        edge = np.repeat(np.arange(at, at + len(counts)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.bitwise_xor.at(toggles, (row, column), 1)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)
