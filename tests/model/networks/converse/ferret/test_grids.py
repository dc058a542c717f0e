"""Grids of tiles, against every grid tried in turn."""

from fractions import Fraction
from itertools import product

import pytest

from dynrefer.model.networks.converse.ferret.grids import GRIDS, Grid, content_size, fitted, pick_grid

SIDE, PATCH = 336, 14
SIZES = [
    *product((1, 40, 336, 500, 1000, 4000), repeat=2),
    (640, 480),
    (480, 640),
    (1920, 1080),
    (333, 1999),
    (12000, 90),
]


def by_trying_all(width: int, height: int) -> Grid:
    """The rule as a sentence: of the grids that keep most pixels, the one that leaves least of its canvas empty."""
    tried = []
    for grid in GRIDS:
        across, down = Fraction(grid.columns * SIDE), Fraction(grid.rows * SIDE)
        scaled_width, scaled_height = across, across / width * height
        if scaled_height > down:
            scaled_width, scaled_height = down / height * width, down
        kept = min(scaled_width * scaled_height, Fraction(width * height))
        tried.append((kept, across * down - kept, grid))
    most = max(kept for kept, _, _ in tried)
    best = [each for each in tried if each[0] == most]
    least = min(empty for _, empty, _ in best)
    return next(grid for _, empty, grid in best if empty == least)


def test_the_grids_are_those_of_the_paper() -> None:
    pairs = {(grid.columns, grid.rows) for grid in GRIDS}
    assert pairs == {
        *((1, count) for count in range(1, 7)),
        *((count, 1) for count in range(1, 7)),
        (2, 2),
        (2, 3),
        (3, 2),
    }
    assert len(GRIDS) == len(pairs)


@pytest.mark.parametrize("size", SIZES)
def test_the_best_grid_is_picked(size: tuple[int, int]) -> None:
    assert pick_grid(size, SIDE) == by_trying_all(*size)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((300, 300), Grid(1, 1)),  # smaller than a tile
        ((672, 672), Grid(2, 2)),
        ((640, 480), Grid(2, 2)),
        ((1000, 700), Grid(3, 2)),
        ((4000, 500), Grid(6, 1)),
        ((500, 4000), Grid(1, 6)),
    ],
)
def test_grids_follow_aspect_and_size(size: tuple[int, int], grid: Grid) -> None:
    assert pick_grid(size, SIDE) == grid


@pytest.mark.parametrize("size", SIZES)
def test_the_image_on_the_canvas_has_whole_patches_and_nearly_its_aspect(size: tuple[int, int]) -> None:
    grid = pick_grid(size, SIDE)
    found, exact = content_size(size, grid, SIDE, PATCH), fitted(size, grid, SIDE)
    canvas = (grid.columns * SIDE, grid.rows * SIDE)
    for side, wanted, most in zip(found, exact, canvas, strict=True):
        assert side % PATCH == 0 and PATCH <= side <= most
        assert abs(side - max(wanted, PATCH / 2)) <= PATCH / 2 + 1e-6


def test_no_other_grid_than_those_given_is_picked() -> None:
    assert pick_grid((4000, 500), SIDE, [Grid(2, 2), Grid(2, 1)]) == Grid(2, 1)
