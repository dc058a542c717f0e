"""Boxes: validation, clipping, interpolation, crops, formats, polygons and masks."""

import math

import numpy as np
import pytest

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import (
    Box,
    BoxFormat,
    box_from_polygons,
    boxes_in_views,
    boxes_towards,
    corners_from,
    integer_crops,
    region_box,
)
from dynrefer.model.types import Corners

SIZE = (640, 426)


@pytest.mark.parametrize(
    ("corners", "word"),
    [
        ((math.nan, 0, 1, 1), "finite"),
        ((0, 0, math.inf, 1), "finite"),
        ((10, 0, 5, 1), "inverted"),
        ((0, 10, 5, 1), "inverted"),
        ((5, 0, 5, 1), "empty"),
        ((0, 5, 5, 5), "empty"),
    ],
)
def test_a_bad_box_is_refused_in_one_sentence(corners: Corners, word: str) -> None:
    with pytest.raises(BoxError, match=word) as caught:
        Box(*corners)
    assert str(caught.value).count(". ") == 0 and str(caught.value).endswith(".")
    assert caught.value.field == "box"


@pytest.mark.parametrize("corners", [(640, 0, 700, 9), (-9, 0, 0, 9), (0, 426, 9, 500), (0, -5, 9, -1)])
def test_a_box_outside_the_image_is_refused(corners: Corners) -> None:
    with pytest.raises(BoxError, match="640 x 426"):
        Box(*corners).clip(SIZE)


@pytest.mark.parametrize("corners", [(0.186, 0.009, 0.529, 0.355), (0.0, 0.0, 1.0, 0.5), (10.2, 10.2, 11.1, 11.1)])
def test_a_region_of_less_than_one_pixel_is_refused(corners: Corners) -> None:
    with pytest.raises(BoxError, match="less than one pixel"):
        region_box(corners)


@pytest.mark.parametrize("corners", [(0.0, 0.0, 1.0, 1.0), (10.2, 10.2, 10.4, 50.0), (-5.0, -5.0, 0.5, 0.5)])
def test_a_thin_region_is_not_too_small(corners: Corners) -> None:
    assert region_box(corners) == Box(*corners)


def test_a_box_too_thin_for_float32_is_refused() -> None:
    with pytest.raises(BoxError):
        Box(639.99999999, 0, 641, 5).clip(SIZE)


def test_clip_cuts_only_what_reaches_out() -> None:
    assert Box(-20, -10, 50, 60).clip(SIZE) == Box(0, 0, 50, 60)
    assert Box(600.5, 400, 1e30, 1e300).clip(SIZE) == Box(600.5, 400, 640, 426)
    assert Box(1.25, 2, 3, 4).clip(SIZE) == Box(1.25, 2, 3, 4)


def test_towards_rounds_to_float32() -> None:
    box = Box(100, 50, 300, 200)
    assert box.towards(SIZE, 0) == box
    assert box.towards(SIZE, 1) == Box(0, 0, *SIZE)
    near = box.towards(SIZE, 0.6)
    assert near.x1 < 40 and near.y1 < 20  # exactly 40 and 20 in real numbers
    assert near.crop(SIZE)[:2] == (39, 19)
    assert all(float(np.float32(value)) == value for value in near.corners)


def test_views_are_nested() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y = np.sort(rng.uniform(0, SIZE[0], 2)), np.sort(rng.uniform(0, SIZE[1], 2))
        box = Box(x[0], y[0], x[1] + 1, y[1] + 1).clip(SIZE)
        crops = integer_crops(boxes_towards(box.corners, SIZE, [t / 10 for t in range(11)]), SIZE)
        assert np.all(np.diff(crops[:, :2], axis=0) <= 0) and np.all(np.diff(crops[:, 2:], axis=0) >= 0)
        assert crops[-1].tolist() == [0, 0, *SIZE]
        assert crops[0].tolist() == list(box.crop(SIZE))


@pytest.mark.parametrize(
    ("corners", "crop"),
    [
        ((236.98, 142.51, 261.68, 212.01), (236, 142, 261, 212)),
        ((-5, -5, 700, 500), (0, 0, 640, 426)),
        ((10.2, 20, 10.9, 60), (10, 20, 11, 60)),  # between two pixel edges: one pixel
        ((639.5, 425.5, 640, 426), (639, 425, 640, 426)),
    ],
)
def test_integer_crops(corners: Corners, crop: tuple[int, ...]) -> None:
    assert Box(*corners).crop(SIZE) == crop


def test_boxes_in_views_scale_in_float32_and_truncate() -> None:
    whole = np.array([[0, 0, 640, 426]])
    assert boxes_in_views(whole, 224).tolist() == [[0, 0, 224, 223]]
    crops = np.array([[100, 100, 101, 140], [90, 90, 154, 168]])
    boxes = boxes_in_views(crops, 224)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[0, 0, 224, 224], [35, 28, 38, 143]]


@pytest.mark.parametrize(
    ("values", "box_format"),
    [
        ((64, 256, 384, 384), BoxFormat.XYXY),
        ((64, 256, 320, 128), BoxFormat.XYWH),
        ((224, 320, 320, 128), BoxFormat.CXCYWH),
    ],
)
def test_formats(values: tuple[float, ...], box_format: BoxFormat) -> None:
    assert corners_from(values, box_format) == (64, 256, 384, 384)
    fractions = np.divide(values, SIZE * 2).tolist()
    normalised = corners_from(fractions, box_format, normalized=True, image_size=SIZE)
    assert normalised == pytest.approx((64, 256, 384, 384))


@pytest.mark.parametrize(
    ("polygons", "box"),
    [
        ([[10, 10, 40, 10, 40, 30], [60, 50, 90, 55, 70, 90]], (10, 10, 90, 90)),
        ([[0, 0, 0, 0]], (0, 0, 1, 1)),
        ([[100, 50, 100, 80]], (99, 50, 100, 80)),
        ([[10.2, 20, 10.9, 60]], (9.9, 20, 10.9, 60)),
        ([[100, 100, 101, 140]], (100, 100, 101, 140)),
    ],
)
def test_polygons(polygons: list[list[float]], box: Corners) -> None:
    assert box_from_polygons(polygons) == pytest.approx(box, abs=1e-12)


@pytest.mark.parametrize("polygons", [[], [[]], [[1, 2, 3]]])
def test_a_polygon_without_points_is_refused(polygons: list[list[float]]) -> None:
    with pytest.raises(BoxError):
        box_from_polygons(polygons)
