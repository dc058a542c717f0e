"""Differences between two models on the same regions."""

from __future__ import annotations

import numpy as np

from dynrefer.workbench.evaluation.paired import compare, mean_of


def test_a_gain_that_every_image_shows_has_an_interval_above_zero() -> None:
    before, after = np.zeros(60), np.tile([1.0, 0.0, 1.0], 20)
    found = compare(mean_of(before), mean_of(after), np.arange(60) // 3)
    assert found.before == 0 and found.after is not None and abs(found.after - 2 / 3) < 1e-9
    assert found.low is not None and found.low > 0 and found.images == 20 and found.regions == 60


def test_the_same_answers_differ_by_nothing() -> None:
    values = np.random.default_rng(0).random(50)
    found = compare(mean_of(values), mean_of(values), np.arange(50))
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_images_are_drawn_whole_so_one_of_many_regions_weighs_as_one() -> None:
    """40 regions that all changed tell little if they are of two images."""
    after = np.concatenate([np.ones(20), -np.ones(20)])
    narrow = compare(mean_of(np.zeros(40)), mean_of(after), np.arange(40))
    wide = compare(mean_of(np.zeros(40)), mean_of(after), np.arange(40) // 20)
    assert wide.low == -1 and wide.high == 1
    assert narrow.low is not None and narrow.low > -0.6


def test_one_image_or_none_has_no_interval() -> None:
    one = compare(mean_of(np.zeros(3)), mean_of(np.ones(3)), np.zeros(3, np.intp))
    assert one.difference == 1 and one.low is None and one.high is None
    none = compare(mean_of(np.zeros(0)), mean_of(np.zeros(0)), np.zeros(0, np.intp))
    assert none.difference is None and none.as_json()["regions"] == 0
