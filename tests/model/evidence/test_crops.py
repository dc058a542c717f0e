"""Crops of the original image: which pixels they take, at the edges and for boxes of no size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.evidence.crops import PADDING, cut_crop, placement, whole_pixels

SIZE = (40, 30)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((10, 5, 20, 25), 0, (10, 5, 20, 25)),
        ((10.2, 5.9, 19.1, 24.01), 0, (10, 5, 20, 25)),
        ((10, 5, 20, 25), 0.1, (9, 3, 21, 27)),
        ((0, 0, 40, 30), 0.2, (0, 0, 40, 30)),
        ((-5, -5, 100, 100), 0, (0, 0, 40, 30)),
        ((12.3, 7.5, 12.3, 7.5), 0, (12, 7, 13, 8)),
        ((39.9, 29.9, 40, 30), 0, (39, 29, 40, 30)),
        ((40, 30, 41, 31), 0, (39, 29, 40, 30)),
        ((-3, -3, -2, -2), 0, (0, 0, 1, 1)),
    ],
)
def test_the_pixels_of_a_box(
    box: tuple[float, float, float, float], margin: float, expected: tuple[int, int, int, int]
) -> None:
    """Widened to whole pixels, inside the image, never empty."""
    assert whole_pixels(box, SIZE, margin) == expected


def test_a_crop_takes_nothing_from_outside_its_box() -> None:
    """Not even where the resize filters."""
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[100:200, 50:150] = (10, 20, 30)
    crop = cut_crop(image, (50, 100, 150, 200))
    assert crop.shape == (3, 224, 224)
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, np.broadcast_to(np.array([10, 20, 30])[:, None, None], crop.shape))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 100), (0, 0, 224, 224)),
        ((150, 100), (0, 0, 224, 224)),
        ((100, 150), (0, 0, 224, 224)),
        ((300, 100), (0, 56, 224, 168)),
        ((100, 300), (56, 0, 168, 224)),
        ((1, 1), (0, 0, 224, 224)),
        ((10_000, 1), (0, 111, 224, 112)),
    ],
)
def test_long_regions_are_not_squeezed_to_a_square(size: tuple[int, int], expected: tuple[int, int, int, int]) -> None:
    """Up to 1.5 to one they are; beyond that the rest is padded, on both sides alike."""
    assert placement(size) == expected


def test_the_padding_of_a_long_region() -> None:
    """Where the region does not lie, the tower sees its zero."""
    crop = cut_crop(np.full((100, 300, 3), 200, dtype=np.uint8), (0, 0, 300, 100))
    assert (crop[:, 56:168] == 200).all()
    assert (crop[:, :56] == PADDING).all()
    assert (crop[:, 168:] == PADDING).all()


def test_pixels_and_a_pillow_image_give_the_same() -> None:
    """Preparation has either."""
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    box = (10.5, 20.5, 80, 70)
    expected = cut_crop(image, box, margin=0.1)
    np.testing.assert_array_equal(cut_crop(Image.fromarray(image), box, margin=0.1), expected)
    np.testing.assert_array_equal(cut_crop(np.asfortranarray(image), box, margin=0.1), expected)


def test_a_large_crop_is_close_to_filtering_every_pixel() -> None:
    """What is saved on large images changes a byte by a few steps at most."""
    image = Image.effect_mandelbrot((2400, 1800), (-2, -1, 1, 1), 60).convert("RGB")
    whole = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)).transpose(2, 0, 1)  # 4 to 3: squeezed
    found = cut_crop(image, (0, 0, *image.size))
    assert np.abs(found.astype(int) - whole).mean() < 1
