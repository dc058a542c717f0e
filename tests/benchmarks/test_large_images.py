"""The measurement of large images: what it counts; its two ways give the same plans and nearly the same crops."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from PIL import Image

from benchmarks.large_images import PICTURE, Difference, boxes, main, measure, preparing, sized
from dynrefer.model import preparation
from dynrefer.model.preparation import PreparationSpec
from dynrefer.model.types import RegionQuery, Task

SPEC = PreparationSpec(3, 64, {task: (0.0, 0.2, 1.0) for task in Task}, evidence=True)


def test_what_is_read_grows_with_the_regions_in_the_exact_way_alone() -> None:
    image = sized(Image.open(PICTURE), 2)
    few, many = (measure(image, count, (Task.CAPTION,), SPEC) for count in (2, 6))
    assert few["exact"]["read_for_crops_over_image"] * 2 < many["exact"]["read_for_crops_over_image"]
    assert many["fast"]["read_for_crops_over_image"] < many["exact"]["read_for_crops_over_image"]
    assert 0 < many["fast"]["held_over_image"] < 1 / 3 and many["exact"]["held_over_image"] == 0
    assert few["fast"]["cpu_s"] > 0


def test_hashes_are_counted_by_sample_or_by_image() -> None:
    image = np.zeros((3000, 3000, 3), dtype=np.uint8)
    shares = []
    for count in (1, 3):
        queries = [RegionQuery(box) for box in boxes(count, 3000, 3000)]
        with preparing(image, exact=False) as work:
            preparation.prepare(image, queries, PreparationSpec(3, 64, {}))
        shares.append(work.read_for_hashes / image.nbytes)
    assert 0.2 < shares[0] < 0.3 and shares[1] > 1  # 11 crops of 448 x 448 samples; then the whole image


def test_both_ways_make_the_same_plans() -> None:
    image = sized(Image.open(PICTURE), 2)
    queries = [RegionQuery(box) for box in boxes(2, image.shape[1], image.shape[0])]
    found = []
    for exact in (False, True):
        with preparing(image, exact):
            found.append(preparation.prepare(image, queries, SPEC))
    difference = Difference()
    for one, other in zip(*found, strict=True):
        assert one.inputs[0].plan == other.inputs[0].plan
        difference.add(one.inputs[0].views.images, other.inputs[0].views.images)
    assert difference.report["mean"] < 0.3 and difference.report["largest"] < 16


def test_sizes_and_counts_must_be_positive() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--megapixels", "0"])
