"""Any resolution: a large image is searched as a whole and, so that small objects are found, in tiles of a grid.

The grid is the one of at most six tiles whose shape fits the image best (as Ferret-v2 cuts an image). Tiles overlap by
a fifth; what touches a border inside the image is left to the tile beside it, or to the look at the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.finding import FindQuery
from dynrefer.model.networks.finder.embedded import SIDE

if TYPE_CHECKING:
    from dynrefer.model.finding import Finder

Floats = NDArray[np.float32]

_MOST_TILES = 6
_WORTH_TILES = 1.3  # times the side that the finder sees: a smaller image loses nothing as a whole
_OVERLAP = 0.2  # of a tile's side
_BORDER = 2.0  # pixels
GRIDS = tuple((across, down) for across in range(1, 7) for down in range(1, 7) if 1 < across * down <= _MOST_TILES)


@dataclass(frozen=True)
class FoundObjects:
    """boxes: (N, 4) float32 xyxy, pixels of the searched image. objectness: (N,). photograph: as in `Candidates`."""

    boxes: Floats
    objectness: Floats
    photograph: float


def find_objects(finder: Finder, pixels: NDArray[np.uint8], *, tiled: bool) -> FoundObjects:
    """All proposals of the whole image and, if `tiled` and it is large, of its tiles. pixels: (h, w, 3) uint8 RGB."""
    found = _search(finder, pixels)
    boxes, objectness = [found.boxes], [found.objectness]
    for left, top, right, bottom in tiles(pixels.shape[1], pixels.shape[0]) if tiled else ():
        part = _search(finder, pixels[top:bottom, left:right])
        inside = _whole_ones(part.boxes, (left, top, right, bottom), pixels.shape[1], pixels.shape[0])
        boxes.append(part.boxes[inside] + np.array([left, top] * 2, np.float32))
        objectness.append(part.objectness[inside])
    return FoundObjects(np.concatenate(boxes), np.concatenate(objectness), found.photograph)


def tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Corners (left, top, right, bottom) of the tiles of an image; none where the finder sees the image whole."""
    if max(width, height) <= _WORTH_TILES * SIDE:
        return []
    across, down = min(GRIDS, key=lambda grid: _misfit(width / grid[0], height / grid[1]))
    columns, rows = _cuts(width, across), _cuts(height, down)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _misfit(width: float, height: float) -> float:
    """How far a tile is from a square of the finder's side, by the logarithms of its sides."""
    return abs(math.log(width / SIDE)) + abs(math.log(height / SIDE))


def _cuts(length: int, count: int) -> list[tuple[int, int]]:
    margin = 0.0 if count == 1 else _OVERLAP / 2 * length / count
    edges = [length * place / count for place in range(count + 1)]
    return [
        (max(0, round(edges[place] - margin)), min(length, round(edges[place + 1] + margin))) for place in range(count)
    ]


def _whole_ones(boxes: Floats, tile: tuple[int, int, int, int], width: int, height: int) -> NDArray[np.bool_]:
    """Which boxes of a tile, in its pixels, touch no border of it that is not the image's too."""
    left, top, right, bottom = tile
    kept = np.ones(len(boxes), dtype=bool)
    for side, position, edge, ends in (
        (0, left, 0, left),
        (1, top, 0, top),
        (2, right, width, left),
        (3, bottom, height, top),
    ):
        if position != edge:
            border = 0 if side < 2 else position - ends
            kept &= np.abs(boxes[:, side] - border) > _BORDER
    return kept


def _search(finder: Finder, pixels: NDArray[np.uint8]) -> FoundObjects:
    (given,) = finder.spec.prepare_each(pixels, [FindQuery()])
    (found,) = finder.find([given], lambda: False)
    return FoundObjects(found.boxes, found.objectness, found.photograph or 0.0)
