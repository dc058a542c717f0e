"""Polygons: crossings, area, bounds, and pixels against COCO's and Pillow's."""

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dynrefer.model.errors import PromptError
from dynrefer.model.polygons import polygon_bitmap, polygon_box, scribble_box

SIZE = (130, 110)
ANGLES = np.arange(2_000) * np.pi / 1_000
CIRCLE = tuple(np.stack([60 + 40 * np.cos(ANGLES), 50 + 40 * np.sin(ANGLES)], axis=1).ravel().tolist())


def star(seed: int) -> tuple[float, ...]:
    """A ring around (60, 50) that does not cross itself."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random(rng.integers(5, 30)) * 2 * np.pi)
    radii = 20 + rng.random(len(angles)) * 30
    return tuple(np.stack([60 + radii * np.cos(angles), 50 + radii * np.sin(angles)], axis=1).ravel().tolist())


@pytest.mark.parametrize("seed", range(20))
def test_the_pixels_are_those_of_coco_but_for_the_edge(seed: int) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    ring = star(seed)
    ours = polygon_bitmap([ring], SIZE)
    theirs = coco.decode(coco.frPyObjects([list(ring)], SIZE[1], SIZE[0]))[..., 0].astype(bool)
    edge = Image.new("L", SIZE)
    ImageDraw.Draw(edge).line([*ring, *ring[:2]], fill=1, width=3)
    assert not ((ours != theirs) & (np.asarray(edge) == 0)).any()
    assert ours.sum() > 0.8 * theirs.sum()


def test_whole_pixels_are_exact_and_rings_are_joined() -> None:
    rings = [(2, 3, 7, 3, 7, 9, 2, 9), (5, 5, 12, 5, 12, 6, 5, 6), (-9, -9, 1, -9, 1, 1, -9, 1)]
    bitmap = polygon_bitmap(rings, (10, 12))
    expected = np.zeros((12, 10), dtype=bool)
    expected[3:9, 2:7] = expected[5, 5:] = expected[0, 0] = True
    assert np.array_equal(bitmap, expected)


@pytest.mark.parametrize("ring", [(5, 5, 25, 25, 25, 5, 5, 25), (0, 0, 20, 0, 20, 20, 10, -5, 0, 20)])
def test_a_crossing_is_found(ring: tuple[float, ...]) -> None:
    with pytest.raises(PromptError, match="crosses itself") as caught:
        polygon_box([ring], SIZE)
    assert caught.value.field == "polygon"


@pytest.mark.parametrize(
    "ring",
    [
        (5, 5, 25, 5, 25, 25, 5, 25, 5, 5),  # closed once more
        (5, 5, 25, 5, 25, 5, 25, 25),  # a point twice
        (0, 0, 10, 0, 5, 0, 5, 8),  # edges that lie on each other
        (0, 0, 20, 0, 10, 10, 20, 20, 0, 20, 10, 10),  # touches itself
        CIRCLE,
    ],
)  # fmt: skip
def test_edges_may_touch(ring: tuple[float, ...]) -> None:
    box = polygon_box([ring], SIZE)
    assert box == pytest.approx((min(ring[::2]), min(ring[1::2]), max(ring[::2]), max(ring[1::2])))


@pytest.mark.parametrize("ring", [(5, 5, 15, 15, 25, 25), (5, 5, 5, 5, 9, 9), (0.1, 0.1, 30.3, 30.3, 50.7, 50.7)])
def test_a_line_is_no_polygon(ring: tuple[float, ...]) -> None:
    with pytest.raises(PromptError, match="no area"):
        polygon_box([ring], SIZE)
    assert scribble_box([ring], SIZE)[0] == ring[0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [([], "empty"), ([(1, 2)], "at least"), ([(1, 2, 3)], "at least"), ([(1, 2, math.nan, 4)], "finite")],
)
def test_what_is_no_line(lines: list[tuple[float, ...]], words: str) -> None:
    with pytest.raises(PromptError, match=words):
        scribble_box(lines, SIZE)


@pytest.mark.parametrize("rings", [[[5, 5] * 3], [[0, 0, 9, 0, 9, 9], [7, 7] * 4]])
def test_a_ring_of_one_point_has_no_area(rings: list[list[float]]) -> None:
    with pytest.raises(PromptError, match="has no area"):
        polygon_box(rings, (20, 20))


@pytest.mark.parametrize(
    "ring", [[20, 2, 30, 2, 30, 9], [-9, 2, 0, 2, 0, 9], [2, 20, 9, 20, 9, 30], [2, -3, 9, -3, 9, 0]]
)
def test_a_polygon_that_only_touches_the_edge_covers_nothing(ring: list[float]) -> None:
    with pytest.raises(PromptError, match="covers nothing of the image"):
        polygon_box([ring], (20, 20))


@pytest.mark.parametrize("lines", [(((45, 70), (80, 4)),), (("a", "b", "c", "d"),), (45, 70, 80, 4)])
def test_lines_that_are_no_rows_of_numbers_are_refused(lines: Any) -> None:
    """A caller in Python may give pairs, words, or one line for many."""
    with pytest.raises(PromptError, match="row of numbers") as caught:
        scribble_box(lines, (100, 100))
    assert "scribble" in str(caught.value)
