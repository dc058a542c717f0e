"""Placement of a scene's objects, so that each has exactly one relation, to its nearest neighbour.

The image is cut into cells. Each cell holds a group: a pair, or a chain of three if the number of objects is odd. The
objects of a group lie closer together than any two groups, so an object's nearest neighbour (the smallest gap between
boxes) is in its own group. Only pairs whose relation is "in front of" / "behind" overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIN_EXTENT, MAX_EXTENT = 0.08, 0.5  # relative to the image's side
MIN_VISIBLE = 0.62  # of a covered object's area
_MIN_COVERED = 0.07
_OVERLAP_PROBABILITY = 0.42  # of a pair; more than a third, because chains never overlap

Kind = Literal["across", "down", "overlap"]
Cell = tuple[float, float, float, float]  # x, y, width, height, pixels


@dataclass(frozen=True)
class Slot:
    """The place of one object: top left corner and size in pixels, relation to object `neighbour`, and layer (0 is
    drawn first)."""

    x: int
    y: int
    width: int
    height: int
    relation: str
    neighbour: int
    layer: int


@dataclass(frozen=True)
class Canvas:
    """The image's size in pixels."""

    width: int
    height: int

    @property
    def padding(self) -> float:
        """Pixels on either side of the line between two cells: half of the least gap between two groups."""
        return max(5.0, 0.04 * min(self.width, self.height))

    def extent(self, width: float, height: float) -> float:
        """The larger of a box's width and height, each relative to the image's."""
        return max(width / self.width, height / self.height)


def arrange(images: Sequence[Image.Image], canvas: Canvas, rng: np.random.Generator) -> list[Slot] | None:
    """One slot per image (posed RGBA, any size), in order; None if this attempt did not fit."""
    count = len(images)
    groups = [2] * (count // 2 - count % 2) + [3] * (count % 2)
    rng.shuffle(groups)
    cells = _cut((0.0, 0.0, float(canvas.width), float(canvas.height)), len(groups), canvas.padding, rng)
    slots: list[Slot] = []
    for size, cell in zip(groups, cells, strict=True):
        members = list(range(len(slots), len(slots) + size))
        sizes = [_wanted_size(images[i], canvas, rng) for i in members]
        kind = _kind(size, cell, rng)
        if kind == "overlap":
            unit = _overlapping([images[i] for i in members], sizes, cell, canvas, members[0], rng)
        else:
            unit = _chained(sizes, cell, canvas, members[0], kind == "down", rng)
        if unit is None or any(canvas.extent(s.width, s.height) < MIN_EXTENT for s in unit):
            return None
        slots.extend(unit)
    return slots


def _kind(size: int, cell: Cell, rng: np.random.Generator) -> Kind:
    if size == 3:
        wide = cell[2] / (cell[2] + cell[3])
        return "across" if rng.random() < 0.5 + 1.2 * (wide - 0.5) else "down"
    choice = rng.random()
    if choice < _OVERLAP_PROBABILITY:
        return "overlap"
    return "across" if choice < _OVERLAP_PROBABILITY + (1 - _OVERLAP_PROBABILITY) / 2 else "down"


def _cut(cell: Cell, count: int, padding: float, rng: np.random.Generator) -> list[Cell]:
    """Cut a cell into `count` cells by lines with padding on both sides."""
    if count == 1:
        return [cell]
    x, y, width, height = cell
    first = count // 2 if rng.random() < 0.5 else count - count // 2
    fraction = first / count * rng.uniform(0.85, 1.15)
    if rng.random() < width**3 / (width**3 + height**3):
        line = width * fraction
        one, two = (x, y, line - padding, height), (x + line + padding, y, width - line - padding, height)
    else:
        line = height * fraction
        one, two = (x, y, width, line - padding), (x, y + line + padding, width, height - line - padding)
    return _cut(one, first, padding, rng) + _cut(two, count - first, padding, rng)


def _wanted_size(image: Image.Image, canvas: Canvas, rng: np.random.Generator) -> tuple[float, float]:
    """A (width, height) in pixels that is clearly small, medium or large; a cell may shrink it later."""
    low, high = ((0.1, 0.155), (0.2, 0.27), (0.34, MAX_EXTENT))[int(rng.choice(3, p=(0.15, 0.25, 0.6)))]
    scale = rng.uniform(low, high) / canvas.extent(*image.size)
    return image.width * scale, image.height * scale


def _chained(
    sizes: Sequence[tuple[float, float]],
    cell: Cell,
    canvas: Canvas,
    start: int,
    down: bool,
    rng: np.random.Generator,
) -> list[Slot] | None:
    """Two or three objects in a row, or in a column if `down`, with a clear dominant direction."""
    x, y, long, short = cell if not down else (cell[1], cell[0], cell[3], cell[2])
    lengths = np.array([size[down] for size in sizes])
    breadths = np.array([size[not down] for size in sizes])
    gaps = np.sort(rng.uniform(0, 1.5, len(sizes) - 1)) * canvas.padding
    if len(gaps) == 2:  # the chain's middle object must have one nearest neighbour, not two
        gaps[1] = max(gaps[1], gaps[0] + 3)
    near_first = bool(rng.random() < 0.5)
    gaps = np.ceil(gaps if near_first else gaps[::-1])
    scale = min(1.0, (long - gaps.sum() - 3) / lengths.sum(), (short - 1) / breadths.max())
    if scale <= 0:
        return None
    whole = np.maximum(1, np.floor(lengths * scale)).astype(int)
    broad = np.maximum(1, np.floor(breadths * scale)).astype(int)
    at = np.ceil(x + rng.uniform(0, 1) * max(0.0, long - gaps.sum() - whole.sum() - 1)) + np.concatenate(
        ([0], np.cumsum(whole[:-1] + gaps))
    )
    aside = _drift(at + whole / 2, broad, y, short, rng)
    before, after = ("above", "below") if down else ("left of", "right of")
    slots = []
    for i, (position, length, breadth, offset) in enumerate(zip(at, whole, broad, aside, strict=True)):
        partner = _partner(i, len(sizes), near_first)
        relation = before if i < partner else after
        corner = (int(offset), int(position)) if down else (int(position), int(offset))
        size = (int(breadth), int(length)) if down else (int(length), int(breadth))
        slots.append(Slot(*corner, *size, relation, start + partner, 0))
    return slots


def _partner(index: int, count: int, near_first: bool) -> int:
    if count == 2:
        return 1 - index
    return (1, 0 if near_first else 2, 1)[index]


def _drift(
    centres: NDArray[np.float64], broad: NDArray[np.int_], low: float, room: float, rng: np.random.Generator
) -> list[int]:
    """Offsets across the chain: at most 0.3 of the step along it, so that the direction stays clear."""
    slack = room - float(broad.max())
    middle = low + float(broad.max()) / 2 + rng.uniform(0, 1) * slack
    out = []
    for i, breadth in enumerate(broad):
        step = float(np.abs(np.delete(centres, i) - centres[i]).min())
        shift = rng.uniform(-0.15, 0.15) * step
        position = min(max(middle + shift - breadth / 2, low), low + room - breadth)
        out.append(int(np.ceil(position)) if position < low + 1 else int(position))
    return out


def _overlapping(
    images: Sequence[Image.Image],
    sizes: Sequence[tuple[float, float]],
    cell: Cell,
    canvas: Canvas,
    start: int,
    rng: np.random.Generator,
) -> list[Slot] | None:
    """A pair, one of which, at random, partly covers the other."""
    x, y, width, height = cell
    reach = np.array(sizes).sum(axis=0) * 0.88
    widest = np.array(sizes).max(axis=0)
    scale = min(1.0, (width - 2) / max(reach[0], widest[0]), (height - 2) / max(reach[1], widest[1]))
    if scale <= 0:
        return None
    whole = [(max(1, int(w * scale)), max(1, int(h * scale))) for w, h in sizes]
    front = int(rng.integers(2))
    offset = _cover(images, whole, front, rng)
    if offset is None:
        return None
    spans = [(min(0, d), max(a[i], d + b[i])) for i, d, a, b in ((i, offset[i], whole[0], whole[1]) for i in (0, 1))]
    corner = []
    for (low, high), origin, room in zip(spans, (x, y), (width, height), strict=True):
        if high - low > room - 1:
            return None
        corner.append(int(np.ceil(origin + rng.uniform(0, 1) * (room - 1 - (high - low)))) - low)
    places = [(corner[0], corner[1]), (corner[0] + offset[0], corner[1] + offset[1])]
    return [
        Slot(*places[i], *whole[i], "in front of" if i == front else "behind", start + 1 - i, int(i == front))
        for i in (0, 1)
    ]


def _cover(
    images: Sequence[Image.Image], sizes: Sequence[tuple[int, int]], front: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Offset of the second object's corner from the first's, such that the overlap is clear but most stays visible."""
    coarse = 3  # masks are compared at a third of their size
    masks = [_mask(image, size, coarse) for image, size in zip(images, sizes, strict=True)]
    back = masks[1 - front]
    angle = float(rng.uniform(0, 2 * np.pi))
    direction = np.array((np.cos(angle), np.sin(angle)))
    direction /= np.abs(direction).max()
    middle = (np.array(sizes[0]) - np.array(sizes[1])) / 2
    span = (np.array(sizes[0]) + np.array(sizes[1])) / 2
    for distance in rng.permutation((0.45, 0.55, 0.65, 0.75)).tolist() + [0.3, 0.2]:
        offset = np.round(middle + direction * span * distance).astype(int)
        covered = _shared(masks[0], masks[1], offset // coarse) / max(1, int(back.sum()))
        if _MIN_COVERED <= covered <= 1 - MIN_VISIBLE - 0.03:
            return int(offset[0]), int(offset[1])
    return None


def _mask(image: Image.Image, size: tuple[int, int], coarse: int) -> NDArray[np.bool_]:
    small = (max(1, round(size[0] / coarse)), max(1, round(size[1] / coarse)))
    return np.asarray(image.getchannel("A").resize(small, Image.Resampling.BOX)) > 100


def _shared(one: NDArray[np.bool_], two: NDArray[np.bool_], offset: NDArray[np.int_]) -> int:
    """Number of pixels in both masks if the second's corner lies at `offset` (x, y) from the first's."""
    x, y = int(offset[0]), int(offset[1])
    left, top = max(0, x), max(0, y)
    right, bottom = min(one.shape[1], x + two.shape[1]), min(one.shape[0], y + two.shape[0])
    if right <= left or bottom <= top:
        return 0
    return int((one[top:bottom, left:right] & two[top - y : bottom - y, left - x : right - x]).sum())
