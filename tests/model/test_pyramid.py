"""Resized crops: small ones to the byte, large ones from reduced copies within bounds, and what the copies take."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model import pyramid
from dynrefer.model.cache import view_digest
from dynrefer.model.crops import ViewCutter, cut_views
from dynrefer.model.evidence.crops import cut_crop
from dynrefer.model.evidence.cutting import EvidenceCutter
from dynrefer.model.geometry import Box, ImageSize, IntCorners
from dynrefer.model.pyramid import REDUCE_FROM_PIXELS, ImagePyramid
from dynrefer.model.types import View, ViewPlan, ViewPolicy
from dynrefer.model.views import nested_views

BICUBIC = Image.Resampling.BICUBIC
EXACT = 1 << 62  # pixels that no crop has: the reference path


def scene(width: int, height: int) -> NDArray[np.uint8]:
    """Soft shapes, hard edges and noise, (height, width, 3) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([90 + 60 * np.sin(x / (50 + 90 * c)) * np.cos(y / (140 - 30 * c)) for c in range(3)], axis=-1)
    image += rng.integers(0, 40, image.shape, dtype=np.uint8)
    image[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 40)
    return image.clip(0, 255).astype(np.uint8)


LARGE = scene(2100, 1700)


def resized(pixels: ImagePyramid, corners: IntCorners, side: int = 64, gap: float = 4) -> NDArray[np.int64]:
    return np.asarray(pixels.resized(corners, (side, side), BICUBIC, gap)).astype(np.int64)


def test_a_crop_below_the_limit_is_pillows_own() -> None:
    width = REDUCE_FROM_PIXELS // 1024 - 1
    corners = (100, 200, 100 + width, 200 + 1024)
    expected = Image.fromarray(LARGE).crop(corners).resize((64, 64), BICUBIC)
    many = ImagePyramid(LARGE)
    assert np.array_equal(resized(many, corners), np.asarray(expected)) and not many.bytes


def test_a_crop_that_no_copy_serves_is_reduced_in_strips_to_pillows_bytes() -> None:
    corners, size = (13, 21, 1913, 1621), (224, 150)
    expected = Image.fromarray(LARGE).crop(corners).resize(size, BICUBIC, reducing_gap=2.0)
    many = ImagePyramid(LARGE)
    assert many.resized(corners, size, BICUBIC, 3, 2.0) == expected and not many.bytes


@pytest.mark.parametrize(
    "corners", [(0, 0, 2100, 1700), (203, 301, 1605, 1500), (7, 9, 2099, 1693), (0, 600, 2100, 1115)]
)
def test_a_large_crop_is_close_to_filtering_every_pixel(corners: IntCorners) -> None:
    fast, exact = ImagePyramid(LARGE), ImagePyramid(LARGE, EXACT)
    difference = np.abs(resized(fast, corners) - resized(exact, corners))
    assert difference.mean() < 0.25 and difference.max() <= 16
    assert not exact.bytes


def test_noise_is_filtered_alike() -> None:
    """Sampling instead of averaging would differ by tens of levels here."""
    noise = np.random.default_rng(1).integers(0, 256, (1500, 1700, 3), dtype=np.uint8)
    corners = (33, 50, 1650, 1444)
    difference = np.abs(resized(ImagePyramid(noise), corners) - resized(ImagePyramid(noise, EXACT), corners))
    assert difference.max() <= 5


def test_of_what_lies_around_a_large_crop_hardly_anything_bleeds_in() -> None:
    """At most a pixel of the copy at the edge, a quarter of a view's pixel: here black around white."""
    image = np.zeros((1800, 2200, 3), dtype=np.uint8)
    image[203:1503, 305:2001] = 255
    found = resized(ImagePyramid(image), (305, 203, 2001, 1503))
    assert (found[1:-1, 1:-1] >= 253).all() and found.min() > 190
    assert resized(ImagePyramid(image, EXACT), (305, 203, 2001, 1503)).min() == 255


def test_a_crop_does_not_depend_on_what_was_cut_before() -> None:
    """Batch invariance: the copy follows from the crop alone."""
    crops = [(0, 0, 2100, 1700), (50, 60, 1900, 1650), (0, 0, 2100, 520), (300, 0, 1000, 1700), (5, 5, 1500, 1200)]
    shared = ImagePyramid(LARGE)
    together = {(crop, gap): resized(shared, crop, gap=gap) for gap in (2, 3, 4) for crop in crops}
    assert all(
        np.array_equal(resized(ImagePyramid(LARGE), crop, gap=gap), found) for (crop, gap), found in together.items()
    )


def test_array_pillow_image_and_other_orders_of_the_array_give_the_same() -> None:
    corners = (101, 3, 2003, 1603)
    expected = resized(ImagePyramid(LARGE), corners)
    for image in (Image.fromarray(LARGE), np.asfortranarray(LARGE)):
        assert np.array_equal(resized(ImagePyramid(image), corners), expected)


@pytest.mark.parametrize("size", [(2100, 1700), (12_000, 300), (300, 12_000), (5003, 1201)])
def test_all_copies_of_an_image_take_less_than_a_third_of_its_bytes(size: ImageSize) -> None:
    width, height = size
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    many = ImagePyramid(image, 0)
    for across in (width // 16, width // 8, width // 3, width):
        for down in (height // 16, height // 8, height // 3, height):
            for side in (1, 2, 8, 64):
                assert np.all(resized(many, (0, 0, across, down), side) == 90)
    assert 0 < many.bytes < image.nbytes / 3


def test_the_image_is_read_a_few_times_however_many_regions_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views and evidence share the copies: what is read of the image itself does not grow with its regions."""
    read = 0
    original = pyramid.crop_pixels

    def counting(image: NDArray[np.uint8] | Image.Image, corners: IntCorners) -> Image.Image:
        nonlocal read
        if image is LARGE:
            read += (corners[2] - corners[0]) * (corners[3] - corners[1])
        return original(image, corners)

    monkeypatch.setattr(pyramid, "crop_pixels", counting)
    monkeypatch.setattr("dynrefer.model.evidence.crops._GAP", 1)  # so that an image of this size has copies for it
    monkeypatch.setattr("dynrefer.model.evidence.windows._GAP", 1)
    shared = ImagePyramid(LARGE)
    views, evidence = ViewCutter(shared, 64), EvidenceCutter(shared)
    for number in range(12):
        before = read
        box = Box(number, 2 * number, 2000 - 3 * number, 1650 - number)
        views.cut(ViewPlan(nested_views(box, shared.size, (0.2, 1.0)), ViewPolicy.FIXED))
        evidence.cut(box.corners)
    assert before == read <= 2 * 2100 * 1700


def test_digests_are_of_the_pixels_that_were_cut() -> None:
    plan = ViewPlan((View(0.0, (10, 10, 2000, 1600)), View(1.0, (0, 0, 2100, 1700))), ViewPolicy.FIXED)
    one, other = cut_views(LARGE, plan, 64), cut_views(ImagePyramid(LARGE), plan, 64)
    assert one.digests == other.digests == tuple(view_digest(view) for view in one.images)
    assert len(set(one.digests)) == 2


def test_evidence_of_a_large_image_is_close_to_that_of_all_its_pixels() -> None:
    image = np.tile(LARGE, (2, 2, 1))[:2800, :3000]
    for box in ((0.0, 0.0, 3000.0, 2800.0), (11.5, 30.2, 2990.0, 2790.0)):
        fast, exact = cut_crop(image, box), cut_crop(ImagePyramid(image, EXACT), box)
        difference = np.abs(fast.astype(int) - exact)
        assert difference.mean() < 2 and difference.max() <= 30
