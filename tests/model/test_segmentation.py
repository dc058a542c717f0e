"""Windows around points, and masks made of what a segmenter found. The masks of transformers are the reference."""

import numpy as np
import pytest
import torch

from dynrefer.model.errors import PointsError
from dynrefer.model.points import PointPrompt, check_points
from dynrefer.model.segmentation import (
    SegmentationSpec,
    WindowMask,
    bitmap_of,
    looks,
    pointed_queries,
    queries_with_masks,
    region_of,
    window_around,
)
from dynrefer.model.types import ImageInfo, RegionQuery

NOWHERE = (0.0, 0.0, 0.0, 0.0)
SPEC = SegmentationSpec(side=64, windows=4)
CORNER = (PointPrompt(2, 3),)


def full(value: float, shape: tuple[int, int] = (4, 4)) -> "np.ndarray[tuple[int, ...], np.dtype[np.float16]]":
    return np.full(shape, value, dtype=np.float16)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ((PointPrompt(65, 5),), r"The point \(65, 5\) lies outside the image of 64 x 48 pixels."),
        ((PointPrompt(5, -0.5),), "lies outside"),
        ((PointPrompt(5, float("nan")),), "not a finite number"),
        ((PointPrompt(5, 5, positive=False),), "At least one point must lie on the object"),
        ((), "At least one point"),
    ],
)
def test_points_that_give_no_region(points: tuple[PointPrompt, ...], sentence: str) -> None:
    with pytest.raises(PointsError, match=sentence):
        check_points(points, (64, 48))


def test_points_on_the_edge_are_in_the_image() -> None:
    check_points((PointPrompt(64, 48), PointPrompt(0, 0, positive=False)), (64, 48))


def test_the_first_look_is_the_whole_image_and_the_next_are_closer() -> None:
    assert looks([(500, 100)], (1000, 600), SPEC) == [
        (0, 0, 1000, 600),
        (250, 0, 750, 500),
        (375, 0, 625, 250),
        (437, 37, 562, 162),  # in whole pixels
    ]


def test_no_look_is_closer_than_the_images_pixels_or_than_the_points_span() -> None:
    assert looks([(30, 20)], (60, 40), SPEC) == [(0, 0, 60, 40)]
    assert looks([(100, 100), (500, 100)], (1000, 600), SPEC) == [(0, 0, 1000, 600)]


def test_a_window_stays_inside_the_image() -> None:
    assert window_around(2, 3, 20, 500, (64, 48)) == (0, 0, 20, 48)
    assert window_around(60, 40, 1, 1, (64, 48)) == (56, 36, 64, 44)  # at least 8 pixels


def test_regions_of_an_image_share_its_window() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    one, two = SPEC.prepare_each(image, [RegionQuery(NOWHERE, points=CORNER), RegionQuery(NOWHERE, points=CORNER)])
    assert one.windows[0] is two.windows[0]
    assert one.windows[0].pixels.shape == (64, 64, 3) and one.size == (60, 40)


def test_invalid_points_are_named_with_their_place() -> None:
    queries = [RegionQuery(NOWHERE, points=CORNER), RegionQuery(NOWHERE, points=(PointPrompt(99, 0),))]
    (error,) = SPEC.invalid(queries, (60, 40))
    assert error.index == 1 and error.field == "points"


@pytest.mark.parametrize("seed", range(5))
def test_masks_are_interpolated_as_transformers_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(16, 16)).astype(np.float16)
    width, height = (int(side) for side in rng.integers(40, 90, 2))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(logits.astype(np.float32))[None, None], (height, width), mode="bilinear", align_corners=False
    )
    found = bitmap_of(WindowMask((0, 0, width, height), logits), (), (width, height))
    assert np.mean(found != (expected[0, 0].numpy() > 0)) < 1e-3  # where both are next to nothing


def test_a_mask_lies_within_its_window() -> None:
    found = bitmap_of(WindowMask((10, 20, 30, 40), full(1)), (), (64, 48))
    assert found.sum() == 400 and found[20:40, 10:30].all()


def test_the_pixel_of_a_positive_point_always_belongs_to_the_object() -> None:
    points = (PointPrompt(64, 48), PointPrompt(5, 6, positive=False))
    box, mask = region_of(WindowMask((10, 20, 30, 40), full(-1)), points, (64, 48))
    assert box == (63, 47, 64, 48)  # one pixel
    assert mask.size == (48, 64)


def ask(info: ImageInfo) -> list[RegionQuery]:
    return [RegionQuery((1, 2, 3, 4)), RegionQuery(NOWHERE, points=CORNER), RegionQuery(NOWHERE, points=CORNER)]


def test_queries_get_the_masks_of_their_places() -> None:
    info = ImageInfo(64, 48)
    assert pointed_queries(ask, (1, 2), info) == ask(info)[1:]
    plain, found, without = queries_with_masks(ask, {1: WindowMask((10, 20, 30, 40), full(1))}, info)
    assert plain == ask(info)[0] and without == ask(info)[2]
    assert found.box == (2, 3, 29, 39) and found.mask is not None and found.points == CORNER


def test_objects_with_boxes_are_looked_at_too() -> None:
    image = np.zeros((400, 600, 3), dtype=np.uint8)
    (region,) = SPEC.prepare_boxes(image, [(100, 100, 200, 220)])
    assert region.box == (100, 100, 200, 220) and region.points == ()
    assert [window.corners for window in region.windows] == [(0, 0, 600, 400), (0, 10, 300, 310)]
