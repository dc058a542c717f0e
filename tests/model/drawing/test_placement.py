"""Placement of labels: whatever the layout, no two overlap and none leaves the canvas."""

import numpy as np
import pytest

from dynrefer.model.drawing.placement import nearest_points, place_labels, touches
from dynrefer.model.types import Corners

CANVAS = (640.0, 480.0)


def layout(seed: int, count: int, largest: float) -> tuple[list[Corners], list[tuple[float, float]]]:
    """Boxes of any size anywhere, some of them alike, and labels of several widths."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (count, 2)) * CANVAS
    sides = rng.uniform(0.002, largest, (count, 2)) * CANVAS
    corners[::7] = corners[0]
    ends = np.minimum(corners + sides, CANVAS)
    boxes: list[Corners] = [
        (x1, y1, x2, y2) for (x1, y1), (x2, y2) in zip(corners.tolist(), ends.tolist(), strict=True)
    ]
    return boxes, [(float(width), 20.0) for width in rng.integers(20, 160, count)]


def overlap(a: Corners, b: Corners) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("largest", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 2, 12, 60, 300])
@pytest.mark.parametrize("seed", range(3))
def test_labels_never_overlap_nor_leave_the_canvas(seed: int, count: int, largest: float) -> None:
    boxes, sizes = layout(seed, count, largest)
    places = place_labels(boxes, sizes, CANVAS)
    standing = [(place, size) for place, size in zip(places, sizes, strict=True) if place is not None]
    for place, (width, height) in standing:
        assert place[0] >= 0 and place[1] >= 0 and place[2] <= CANVAS[0] and place[3] <= CANVAS[1]
        assert (place[2] - place[0], place[3] - place[1]) == pytest.approx((width, height))
    for index, (place, _) in enumerate(standing):
        assert not any(overlap(place, other) for other, _ in standing[:index])
    if count <= 60:
        assert len(standing) == count


def test_every_label_has_a_place_where_they_all_fit() -> None:
    boxes = [(300.0, 200.0, 310.0, 210.0)] * 40  # all of them want the same place
    places = place_labels(boxes, [(60.0, 20.0)] * 40, CANVAS)
    assert None not in places


def test_a_label_stands_at_its_box_and_not_over_it() -> None:
    box = (100.0, 100.0, 200.0, 180.0)
    (place,) = place_labels([box], [(80.0, 20.0)], CANVAS)
    assert place is not None and touches(place, box, 2.0) and not overlap(place, box)


def test_a_box_of_the_whole_image_has_its_label_inside() -> None:
    (place,) = place_labels([(0.0, 0.0, *CANVAS)], [(80.0, 20.0)], CANVAS)
    assert place is not None and place[0] < 20 and place[1] < 20


def test_a_label_larger_than_the_canvas_has_no_place() -> None:
    assert place_labels([(0.0, 0.0, 9.0, 9.0)], [(CANVAS[0] + 1, 20.0)], CANVAS) == [None]


def test_a_line_joins_the_nearest_points() -> None:
    assert nearest_points((0, 0, 10, 10), (20, 2, 30, 6)) == ((10, 4), (20, 4))
    assert nearest_points((0, 0, 10, 10), (20, 20, 30, 30)) == ((10, 10), (20, 20))
