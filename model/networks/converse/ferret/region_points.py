"""The points of a region that Ferret looks at, and which of them are neighbours. No torch.

All of this is geometry: it depends on the region alone, so it is computed once, in float64 and with ties decided by
order, and comes out the same on every device. Source: section 3.2 of Ferret (arXiv 2310.07704): N points of the mask,
then in each stage as many by farthest-point sampling, each with its nearest neighbours among those before.

Shapes: N = points at first, M = points that a stage keeps, K = neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.run_lengths import rle_runs
from dynrefer.model.types import RegionQuery

Points = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SamplingStage:
    """centres: (M,) int64, which points of the stage before are kept. neighbours: (M, K) int64, of these points, the
    nearest of each centre, itself among them."""

    centres: Places
    neighbours: Places


@dataclass(frozen=True, slots=True)
class RegionPoints:
    """points: (N, 2) float64, x and y as parts of the image, 0 to 1. stages: in order."""

    points: Points
    stages: tuple[SamplingStage, ...]


def region_points(
    query: RegionQuery, size: ImageSize, count: int, kept: Sequence[int], neighbours: Sequence[int]
) -> RegionPoints:
    """Of a region on an image of (width, height). count: N. kept, neighbours: M and K of each stage.

    Raises `BoxError` for a mask without pixels.
    """
    points = chosen_points(query, size, count)
    stages, left = [], points
    for centres, nearest in zip(kept, neighbours, strict=True):
        places = farthest_points(left, centres)
        stages.append(SamplingStage(places, nearest_points(left[places], left, nearest)))
        left = left[places]
    return RegionPoints(points, tuple(stages))


def chosen_points(query: RegionQuery, size: ImageSize, count: int) -> Points:
    """(count, 2): centres of distinct pixels of the region, drawn by a generator that the region itself seeds; where it
    has fewer pixels, all of them, and some again. Without a mask, the pixels that its box touches."""
    total = len(_Pixels(query, size))
    generator = np.random.default_rng(int.from_bytes(region_digest(query)[:8], "big"))
    if total < count:
        drawn = np.concatenate([np.arange(total), generator.integers(0, total, count - total)])
    else:
        drawn = generator.choice(total, count, replace=False)
    return (_Pixels(query, size).at(drawn) + 0.5) / np.array(size, np.float64)


def farthest_points(points: Points, count: int) -> Places:
    """(count,): the first point, then each time the one that is farthest from all before; the earliest of equals."""
    places = np.zeros(count, np.int64)
    distance = np.full(len(points), np.inf)
    for step in range(1, count):
        offsets = points - points[places[step - 1]]
        np.minimum(distance, (offsets * offsets).sum(axis=1), out=distance)
        places[step] = distance.argmax()
    return places


def nearest_points(centres: Points, points: Points, count: int) -> Places:
    """(M, count): for each centre the nearest points, nearest first; of equals, the earliest."""
    offsets = centres[:, None] - points
    distance = (offsets * offsets).sum(axis=2)
    return np.argsort(distance, axis=1, kind="stable")[:, :count]


def region_digest(query: RegionQuery) -> bytes:
    """SHA-256 of what the region covers: its mask, or else its box."""
    mask = query.mask
    covered = f"{query.box}" if mask is None else f"{mask.size} {mask.counts}"
    return hashlib.sha256(covered.encode("utf-8", "surrogatepass")).digest()


class _Pixels:
    """The pixels of a region in a fixed order, none of them written down: a huge mask costs what its runs do."""

    def __init__(self, query: RegionQuery, size: ImageSize) -> None:
        self._height = 0
        if query.mask is None:
            x1, y1, x2, y2 = query.box
            self._left, self._top = (min(int(first), side - 1) for first, side in zip((x1, y1), size, strict=True))
            self._width = max(1, min(int(np.ceil(x2)), size[0]) - self._left)
            self._total = self._width * max(1, min(int(np.ceil(y2)), size[1]) - self._top)
            return
        runs = rle_runs(query.mask.counts)
        self._height = query.mask.size[0]
        self._starts = np.cumsum(runs)[: len(runs) // 2 * 2 : 2]  # of the runs that are the region's
        self._before = np.concatenate([[0], np.cumsum(runs[1::2])])  # the region's pixels before each of them
        self._total = int(self._before[-1])
        if not self._total:
            raise BoxError("The mask is empty: it needs at least one pixel.")

    def __len__(self) -> int:
        return self._total

    def at(self, places: Places) -> Points:
        """(N, 2) float64, column and row of the pixels at these places."""
        if not self._height:
            down, across = np.divmod(places, self._width)
            return np.stack([self._left + across, self._top + down], axis=1).astype(np.float64)
        run = np.searchsorted(self._before, places, side="right") - 1
        flat = self._starts[run] + places - self._before[run]  # down the columns
        return np.stack(np.divmod(flat, self._height), axis=1).astype(np.float64)
