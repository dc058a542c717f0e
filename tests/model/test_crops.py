"""Cutting views: pixels, boxes in the views, normalisation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.crops import cut_views
from dynrefer.model.geometry import Box
from dynrefer.model.types import View, ViewPlan, ViewPolicy
from dynrefer.model.views import plan_views


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_shapes_dtypes_and_boxes() -> None:
    image = noise(60, 80)
    batch = cut_views(image, plan_views(image, Box(10, 10, 30, 40), num_views=4), 56)
    assert batch.images.shape == (4, 3, 56, 56) and batch.images.dtype == np.uint8
    assert batch.boxes.shape == (4, 4) and batch.boxes.dtype == np.float32
    assert batch.boxes[0].tolist() == [0, 0, 56, 56]
    assert np.all(batch.boxes >= 0) and np.all(batch.boxes <= 56)
    assert np.array_equal(batch.boxes, np.trunc(batch.boxes))


def test_a_view_of_its_own_size_keeps_its_pixels() -> None:
    image = noise(60, 80)
    plan = ViewPlan((View(0.0, (5.9, 7.2, 37.5, 39.8)),), ViewPolicy.FIXED)
    batch = cut_views(image, plan, 32)
    assert np.array_equal(batch.images[0], image[7:39, 5:37].transpose(2, 0, 1))


def test_pixels_around_a_crop_do_not_bleed_in() -> None:
    image = noise(60, 80)
    image[20:40, 20:40] = 100
    plan = ViewPlan((View(0.0, (20, 20, 40, 40)),), ViewPolicy.FIXED)
    assert np.all(cut_views(image, plan, 48).images == 100)


@pytest.mark.parametrize("box", [(10, 10, 30, 40), (0, 0, 80, 60), (79.2, 59.1, 80, 60)])
def test_array_and_pillow_image_give_the_same(box: tuple[float, float, float, float]) -> None:
    image = noise(60, 80)
    plan = plan_views(image, Box(*box), num_views=3)
    from_array, from_pillow = cut_views(image, plan, 32), cut_views(Image.fromarray(image), plan, 32)
    assert np.array_equal(from_array.images, from_pillow.images) and np.array_equal(from_array.boxes, from_pillow.boxes)
