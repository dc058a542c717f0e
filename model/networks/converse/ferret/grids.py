"""Any resolution: into how many tiles an image is cut, and how large it is then. No torch.

Ferret-v2 lays the image on the grid of square tiles that keeps most of its pixels, and of these on the one with the
least area left empty. Source: section 3.2 of the paper (arXiv 2404.07973), whose grids these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from dynrefer.model.geometry import ImageSize


@dataclass(frozen=True, slots=True)
class Grid:
    """So many tiles across and down."""

    columns: int
    rows: int

    @property
    def tiles(self) -> int:
        """How many in all."""
        return self.columns * self.rows


_UPRIGHT = ((1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 2), (2, 3))
GRIDS = tuple(Grid(*sides) for sides in sorted({*_UPRIGHT, *((down, across) for across, down in _UPRIGHT)}))


def fitted(size: ImageSize, grid: Grid, side: int) -> tuple[float, float]:
    """(width, height) of an image of this size, scaled up or down to fit the grid's canvas with its aspect kept."""
    ratio = min(grid.columns * side / size[0], grid.rows * side / size[1])
    return size[0] * ratio, size[1] * ratio


def pick_grid(size: ImageSize, side: int, grids: Sequence[Grid] = GRIDS) -> Grid:
    """The grid for an image of (width, height) pixels and tiles of this side.

    What counts is how many pixels of the image it keeps (no more than the image has), then how little of its canvas is
    left without any of them; among equals, the first one. `grids` may not be empty.
    """
    return min(grids, key=lambda grid: _cost(size, grid, side))


def _cost(size: ImageSize, grid: Grid, side: int) -> tuple[Fraction, Fraction]:
    """Pixels lost, and pixels of the canvas that hold none; exact, so that no rounding decides."""
    width, height = size
    across, down = grid.columns * side, grid.rows * side
    ratio = min(Fraction(across, width), Fraction(down, height))
    kept = width * height * min(ratio * ratio, Fraction(1))
    return width * height - kept, across * down - kept


def content_size(size: ImageSize, grid: Grid, side: int, patch: int) -> ImageSize:
    """(width, height) of the image on the canvas, rounded to whole patches (at least one), so that a cell of the tiles'
    feature map lies wholly inside the image or wholly outside. The aspect changes by half a patch at most."""
    width, height = fitted(size, grid, side)
    return _whole(width, patch, grid.columns * side), _whole(height, patch, grid.rows * side)


def _whole(length: float, patch: int, most: int) -> int:
    return max(patch, min(most, round(length / patch) * patch))
