"""Nested views, hash, greedy search and plans; the fast hash against a plain one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dynrefer.model.errors import BoxError, ConfigError, ViewsError
from dynrefer.model.geometry import Box, boxes_towards, integer_crops
from dynrefer.model.types import ViewPolicy
from dynrefer.model.views import (
    GATHER_FROM_PIXELS,
    GATHER_FROM_SIDE,
    STEPS,
    GreyImage,
    greedy_picks,
    nested_views,
    plan_views,
    search_candidates,
)


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Something with structure at every scale: (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    image = rng.normal(0, 8, (height, width, 3)) + 128
    for _ in range(12):
        waves = rng.uniform(0, 6, 2) * 2 * np.pi / np.array([height, width])
        image += rng.normal(0, 25, 3) * np.sin(waves[0] * y + waves[1] * x + rng.uniform(0, 6))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def plain_low_frequencies(rgb: NDArray[np.uint8], crop: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """The hash's 8 x 8 coefficients step by step: grey, crop, bilinear resize, DCT-II; float64."""
    red, green, blue = (rgb[..., channel].astype(np.int64) for channel in range(3))
    grey = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15
    x1, y1, x2, y2 = crop
    resized = plain_resize(plain_resize(grey[y1:y2, x1:x2].astype(np.float64)).T).T
    cosines = np.empty((8, 224))
    for band in range(8):
        for position in range(224):
            cosines[band, position] = np.cos(np.pi * band * (2 * position + 1) / 448)
    cosines *= np.sqrt(2 / 224)
    cosines[0] /= np.sqrt(2)
    return cosines @ resized @ cosines.T


def plain_resize(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resize the first axis to 224: half-pixel centres, two neighbours, edges repeated."""
    length = len(values)
    rows = []
    for position in range(224):
        centre = float(np.float32((position + 0.5) * (length / 224) - 0.5))  # OpenCV rounds it so
        centre = min(max(centre, 0), length - 1)
        low = int(centre)
        fraction = centre - low
        rows.append(values[low] * (1 - fraction) + values[min(low + 1, length - 1)] * fraction)
    return np.stack(rows)


def some_crops(size: tuple[int, int], seed: int) -> NDArray[np.int64]:
    """Crops of every kind: nested ones, one pixel, one row, the whole image."""
    width, height = size
    box = Box(0.31 * width, 0.2 * height, 0.4 * width + 1, 0.5 * height + 1).clip(size)
    nested = integer_crops(boxes_towards(box.corners, size, (0.0, *STEPS)), size)
    corner = np.random.default_rng(seed).integers(0, (width, height))
    x, y = corner.tolist()
    odd = [[x, y, x + 1, y + 1], [0, y, width, y + 1], [x, 0, x + 1, height], [0, 0, width, height]]
    return np.concatenate([nested, odd])


@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 640), (37, 61), (1, 1), (2, 900), (224, 448), (1024, 1024), (1100, 1300), (900, 3), (3, 20_000)],
)
def test_the_fast_hash_agrees_with_the_plain_one(height: int, width: int) -> None:
    rgb = photo(height, width)
    grey = GreyImage(rgb)
    crops = some_crops(grey.size, seed=height)
    fast = grey.low_frequencies(crops)
    plain = np.stack([plain_low_frequencies(rgb, tuple(crop)) for crop in crops.tolist()])
    error = np.abs(fast - plain).max() / np.abs(plain).max()
    print(f"{width} x {height}: largest coefficient error {error:.2g} relative")
    assert error < 4e-6  # float32 sums; the worst are crops of one row, where most coefficients cancel to 0
    flat = plain.reshape(len(plain), -1)
    distance = np.abs(flat - flat.mean(axis=1, keepdims=True))
    clear = distance > 1e-5 * np.abs(flat).max(axis=1, keepdims=True)
    assert np.array_equal(grey.hash_bits(crops)[clear], (flat > flat.mean(axis=1, keepdims=True))[clear])


def test_both_ways_of_the_fast_hash_are_tried() -> None:
    assert 480 * 640 < GATHER_FROM_PIXELS <= 1024 * 1024
    assert 900 < GATHER_FROM_SIDE <= 20_000


def test_a_large_image_is_hashed_from_its_samples_alone_or_whole_to_the_same_bit() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2600, 3100, 3), dtype=np.uint8)
    sampled, whole = GreyImage(rgb), GreyImage(rgb)
    whole.pixels  # noqa: B018  converts all, which is used from then on
    crops = some_crops(sampled.size, seed=2)[-9:]  # few enough that their samples are converted alone
    assert np.array_equal(sampled.low_frequencies(crops), whole.low_frequencies(crops))
    assert "pixels" not in vars(sampled) and "floats" not in vars(sampled)


def test_many_regions_of_a_large_image_share_one_conversion_and_the_hash_of_the_whole_image() -> None:
    rgb = photo(1100, 1300)
    alone = [search_candidates(GreyImage(rgb), box) for box in (Box(1, 2, 500, 600), Box(200, 300, 1200, 1000))]
    grey = GreyImage(rgb)
    assert [search_candidates(grey, box) for box in (Box(1, 2, 500, 600), Box(200, 300, 1200, 1000))] == alone
    assert len(grey._gathered_crops) == 2 * len(STEPS) + 1 and "pixels" in vars(grey)


def test_grey_is_opencvs_integer_grey() -> None:
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, len(levels), 3)
    wide = rgb.astype(np.int64)
    expected = (9798 * wide[..., 0] + 19235 * wide[..., 1] + 3735 * wide[..., 2] + (1 << 14)) >> 15
    assert np.array_equal(GreyImage(rgb).pixels, expected)


def test_grey_takes_views_that_are_not_contiguous() -> None:
    rgb = photo(40, 60)
    assert np.array_equal(GreyImage(rgb[:, ::-1]).pixels, GreyImage(rgb).pixels[:, ::-1])


def test_a_black_image_has_no_bits_set() -> None:
    bits = GreyImage(np.zeros((50, 50, 3), np.uint8)).hash_bits(np.array([[0, 0, 50, 50]]))
    assert bits.shape == (1, 64) and not bits.any()


def test_nested_views_begin_with_the_region_and_end_with_the_image() -> None:
    views = nested_views(Box(100, 50, 300, 200), (640, 426))
    assert [view.t for view in views] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert views[0].box == (100, 50, 300, 200)
    assert views[-1].box == (0, 0, 640, 426)


@pytest.mark.parametrize(
    ("gains", "count", "picks"),
    [
        ([100, 120, 86], 2, [1, 0]),
        ([5, 7, 7, 1], 3, [1, 2, 0]),  # a tie goes to the smaller t
        ([0, 0, 0], 3, [0, 0, 0]),  # nothing to gain: t = 0.1, again and again
        ([0, 0, 8], 3, [2, 0, 0]),
        ([3, 2], 4, [0, 1, 0, 0]),  # more than there are
        ([3, 2], 0, []),
    ],
)
def test_greedy_picks(gains: list[float], count: int, picks: list[int]) -> None:
    assert greedy_picks(gains, count) == picks


@pytest.mark.parametrize("num_views", range(1, 13))
def test_image_prior_for_every_number_of_views(num_views: int) -> None:
    image = photo(120, 160)
    plan = plan_views(image, Box(40, 30, 90, 80), num_views=num_views)
    assert plan.policy is ViewPolicy.IMAGE_PRIOR
    assert len(plan.views) == num_views and plan.views[0].t == 0.0
    assert len(plan.candidates) == (10 if num_views > 1 else 0)
    gains = {candidate.t: candidate.gain for candidate in plan.candidates}
    chosen = [gains[view.t] for view in plan.views[1:11]]
    assert chosen == sorted(chosen, reverse=True)
    assert all(candidate.gain == candidate.distance / candidate.t for candidate in plan.candidates)


def test_the_whole_image_has_nothing_to_gain() -> None:
    plan = plan_views(photo(60, 80), Box(0, 0, 80, 60), num_views=3)
    assert [view.t for view in plan.views] == [0.0, 0.1, 0.1]
    assert {candidate.distance for candidate in plan.candidates} == {0}


def test_regions_share_one_grey_image() -> None:
    image = photo(120, 160)
    grey = GreyImage(image)
    for box in (Box(1, 2, 50, 60), Box(20, 30, 150, 110)):
        assert plan_views(grey, box, num_views=3) == plan_views(image, box, num_views=3)


def test_fixed_views_and_task_priors_keep_their_order() -> None:
    image, box = photo(60, 80), Box(10, 10, 30, 30)
    fixed = plan_views(image, box, num_views=3, views=(0.0, 0.7, 0.25), task_prior=(0.0, 0.1, 0.2))
    assert fixed.policy is ViewPolicy.FIXED and [view.t for view in fixed.views] == [0.0, 0.7, 0.25]
    assert fixed.views[2].box == box.towards((80, 60), 0.25).corners
    prior = plan_views(image, box, num_views=3, task_prior=(0.0, 0.4, 0.1))
    assert prior.policy is ViewPolicy.TASK_PRIOR and [view.t for view in prior.views] == [0.0, 0.4, 0.1]
    assert prior.candidates == fixed.candidates == ()


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ((0.0, 0.1), "3 values of t, not 2"),
        ((), "3 values of t, not 0"),
        ((0.1, 0.2, 0.3), "begin with t = 0"),
        ((0.0, 1.1, 0.3), "between 0 and 1"),
        ((0.0, -0.1, 0.3), "between 0 and 1"),
        ((0.0, float("nan"), 0.3), "between 0 and 1"),
    ],
)
def test_views_that_the_model_cannot_take(views: tuple[float, ...], words: str) -> None:
    image, box = photo(30, 40), Box(1, 1, 9, 9)
    with pytest.raises(ViewsError, match=words) as caught:
        plan_views(image, box, num_views=3, views=views)
    assert caught.value.field == "views"
    with pytest.raises(ConfigError, match=words):
        plan_views(image, box, num_views=3, task_prior=views)


def test_a_box_is_clipped_before_it_is_looked_at() -> None:
    image = photo(60, 80)
    plan = plan_views(image, Box(-20, -10, 50, 40), num_views=3)
    assert plan == plan_views(image, Box(0, 0, 50, 40), num_views=3)
    assert plan.views[0].box == (0, 0, 50, 40)
    with pytest.raises(BoxError):
        plan_views(image, Box(80, 0, 90, 10), num_views=3)


@pytest.mark.parametrize("box", [(10.2, 5.1, 10.9, 5.4), (39.5, 29.5, 40, 30), (3, 0, 4, 30)])
def test_regions_thinner_than_a_pixel_have_views(box: tuple[float, float, float, float]) -> None:
    assert len(plan_views(photo(30, 40), Box(*box), num_views=3).views) == 3


def test_one_pixel_image() -> None:
    plan = plan_views(np.full((1, 1, 3), 9, np.uint8), Box(0, 0, 1, 1), num_views=3)
    assert [view.box for view in plan.views] == [(0, 0, 1, 1)] * 3
