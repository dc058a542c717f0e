"""Outlines of masks: along the pixels' edges, one per part, and back to the mask they came from."""

import numpy as np
import pytest

from dynrefer.model.masks import RegionMask, mask_from_bitmap
from dynrefer.model.outlines import mask_outlines, rings_of, simplified_outline
from dynrefer.model.polygons import polygon_bitmap


@pytest.mark.parametrize("seed", range(40))
def test_filled_again_they_are_the_mask(seed: int) -> None:
    """Holes and what lies inside of them too, by the even-odd rule; and pixels that touch at a corner stay apart."""
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 14, 2)
    bitmap = random.random((height, width)) < random.random()
    filled = np.zeros_like(bitmap)
    for ring, _ in rings_of(bitmap):
        filled ^= polygon_bitmap([ring.ravel().tolist()], (width, height))
    assert np.array_equal(filled, bitmap)


def test_each_part_has_one_the_largest_first() -> None:
    bitmap = np.zeros((6, 9), dtype=bool)
    bitmap[0, 0] = bitmap[1, 1] = True  # touch at a corner
    bitmap[2:6, 3:8] = True
    bitmap[3, 4] = bitmap[4, 5] = False  # two holes, which touch at a corner
    large, *small = mask_outlines(mask_from_bitmap(bitmap))
    assert large == (3, 2, 8, 2, 8, 6, 3, 6)
    assert sorted(small) == [(0, 0, 1, 0, 1, 1, 0, 1), (1, 1, 2, 1, 2, 2, 1, 2)]


def test_a_tolerance_saves_corners_and_moves_no_edge_further() -> None:
    y, x = np.mgrid[:200, :300]
    disc = (x - 150) ** 2 + (y - 100) ** 2 < 80**2
    exact = mask_outlines(mask_from_bitmap(disc), 0)[0]
    simple = mask_outlines(mask_from_bitmap(disc), 1.5)[0]
    assert len(simple) < len(exact) / 8
    assert simplified_outline(exact, 1.5) == simple and simplified_outline(exact, 0) == exact
    changed = polygon_bitmap([simple], (300, 200)) ^ disc
    assert changed.sum() < 1.5 * 2 * np.pi * 80
    distances = np.hypot(x - 149.5, y - 99.5)[changed]
    assert np.all(np.abs(distances - 80) < 3.2)


def test_nothing_has_none_and_one_pixel_four_corners() -> None:
    assert mask_outlines(RegionMask((4, 5), mask_from_bitmap(np.zeros((4, 5), dtype=bool)).counts)) == []
    dot = np.zeros((4, 5), dtype=bool)
    dot[3, 4] = True
    assert mask_outlines(mask_from_bitmap(dot), 10) == [(4, 3, 5, 3, 5, 4, 4, 4)]
