"""Tiles of large images, and what of them is kept."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.networks.converse.embedded.tiles import GRIDS, _whole_ones, tiles


def test_a_small_image_has_none() -> None:
    assert tiles(384, 300) == []


@pytest.mark.parametrize(("size", "count"), [((1024, 1024), 6), ((1024, 300), 3), ((300, 1024), 3), ((1024, 700), 6)])
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], count: int) -> None:
    found = tiles(*size)
    assert len(found) == count
    covered = np.zeros((size[1], size[0]), int)
    for left, top, right, bottom in found:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        covered[top:bottom, left:right] += 1
    assert covered.min() == 1 and covered.max() > 1


def test_a_grid_has_at_most_six_tiles() -> None:
    assert max(across * down for across, down in GRIDS) == 6 and min(across * down for across, down in GRIDS) == 2


def test_what_touches_a_border_inside_the_image_is_left_out() -> None:
    boxes = np.array([[0, 0, 9, 9], [60, 5, 100, 20], [5, 60, 20, 100], [5, 5, 20, 20]], np.float32)
    kept = _whole_ones(boxes, (0, 100, 100, 200), 300, 200)
    assert kept.tolist() == [False, False, True, True]
