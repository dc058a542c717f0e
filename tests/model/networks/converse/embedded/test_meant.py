"""Whoever points roughly means an object that was found; whoever draws a box means that box."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.networks.converse.embedded.meant import meant_box
from dynrefer.model.networks.converse.embedded.seen import SeenObjects
from dynrefer.model.points import PointPrompt
from dynrefer.model.types import Corners, RegionQuery

DOG, KENNEL, DOUBTFUL = (20.0, 20.0, 60.0, 60.0), (10.0, 10.0, 100.0, 90.0), (24.0, 24.0, 58.0, 58.0)


def _objects(*boxes: tuple[Corners, float]) -> SeenObjects:
    count = len(boxes)
    corners = np.array([box for box, _ in boxes], np.float32).reshape(-1, 4)
    sure = np.array([value for _, value in boxes], np.float32)
    return SeenObjects(corners, sure, *(np.zeros((count, 2), np.float32) for _ in range(3)))


OBJECTS = _objects((KENNEL, 0.9), (DOG, 0.8), (DOUBTFUL, 0.2))


@pytest.mark.parametrize(
    "segmented, expected",
    [((25.0, 25.0, 55.0, 50.0), DOG), ((12.0, 12.0, 90.0, 80.0), KENNEL), ((38.0, 38.0, 42.0, 42.0), DOG)],
)
def test_points_mean_the_found_object_that_is_most_like_what_they_lie_on(segmented: Corners, expected: Corners) -> None:
    region = RegionQuery(box=segmented, points=(PointPrompt(40, 40), PointPrompt(70, 70, positive=False)))
    assert meant_box(region, OBJECTS) == expected


def test_all_points_lie_on_the_object() -> None:
    region = RegionQuery(box=(25.0, 25.0, 55.0, 50.0), points=(PointPrompt(40, 40), PointPrompt(80, 80)))
    assert meant_box(region, OBJECTS) == KENNEL


def test_a_scribble_means_the_object_that_its_box_covers() -> None:
    assert meant_box(RegionQuery(box=(18.0, 30.0, 63.0, 55.0), rough=True), OBJECTS) == DOG


@pytest.mark.parametrize(
    "region",
    [
        RegionQuery(box=(18.0, 30.0, 63.0, 55.0)),
        RegionQuery(box=(120.0, 120.0, 140.0, 150.0), rough=True),
        RegionQuery(box=(120.0, 120.0, 140.0, 150.0), points=(PointPrompt(130, 130),)),
    ],
)
def test_a_box_and_what_lies_on_nothing_stay(region: RegionQuery) -> None:
    assert meant_box(region, OBJECTS) == region.box
    assert meant_box(region, _objects()) == region.box
