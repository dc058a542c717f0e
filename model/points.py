"""Points at an object: what a client clicks on, or beside. No NumPy, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dynrefer.model.errors import PointsError
from dynrefer.model.records import JsonRecord


@dataclass(frozen=True, slots=True)
class PointPrompt(JsonRecord):
    """A point in pixels of the upright image, x to the right, y down.

    positive: whether it lies on the object; else the object ends before it.
    """

    x: float
    y: float
    positive: bool = True


def check_points(points: Sequence[PointPrompt], image_size: tuple[int, int]) -> None:
    """Raise `PointsError` unless a region can be found from these points of an image of (width, height) pixels: all of
    them in the image, at least one of them on the object."""
    width, height = image_size
    for point in points:
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            raise PointsError(f"The point ({point.x:g}, {point.y:g}) has a coordinate that is not a finite number.")
        if not (0 <= point.x <= width and 0 <= point.y <= height):
            raise PointsError(
                f"The point ({point.x:g}, {point.y:g}) lies outside the image of {width} x {height} pixels."
            )
    if not any(point.positive for point in points):
        raise PointsError("At least one point must lie on the object (positive: true).")
