"""The metrics of a comparison agree with those of evaluation."""

from __future__ import annotations

import numpy as np

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.metrics.calibration import calibration_error
from dynrefer.workbench.training.corrections.comparison import _calibration, _hits, _quality, widened
from dynrefer.workbench.training.corrections.words import Judged

WHOLE = np.ones((1, 30), dtype=np.int64)


def test_calibration_error_is_that_of_evaluation() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(-1, 2, (30, 7)).astype(np.int8), rng.random((30, 7))
    known = truth >= 0
    found = _calibration(Task.TAGS, scores, scores, truth)(WHOLE)[0]
    expected = calibration_error(scores[known], truth[known] == 1)
    assert expected is not None and abs(found - expected) < 1e-9


def test_a_region_that_is_drawn_twice_counts_twice() -> None:
    truth = np.zeros((3, 2), np.int8)
    truth[0, 0] = truth[1, 0] = truth[2, 1] = 1
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    metric = _quality(Task.CATEGORIES, scores, truth, 0.0)
    assert metric(np.array([[1, 1, 1], [1, 0, 2]])).round(4).tolist() == [0.6667, 0.3333]


def test_a_model_that_gives_no_category_is_wrong() -> None:
    truth = np.array([[1, 0], [1, 0]], np.int8)
    scores = np.array([[-np.inf, -np.inf], [0.5, 0.1]])
    assert _hits(scores, truth).tolist() == [False, True]


def test_names_beside_the_vocabulary_are_wrong_where_a_category_is_judged() -> None:
    judged = Judged(np.array([[1, 0], [-1, -1]], np.int8), np.zeros((2, 1), np.int8), np.zeros((2, 1), np.int8))
    known = {Task.CATEGORIES: ("a", "b"), Task.TAGS: ("a",), Task.ATTRIBUTES: ("a",)}
    names = {Task.CATEGORIES: ("a", "b", "c"), Task.TAGS: ("a", "c"), Task.ATTRIBUTES: ("a",)}
    found = widened(judged, known, names)
    assert found.categories.tolist() == [[1, 0, 0], [-1, -1, -1]] and found.tags.tolist() == [[0, -1], [0, -1]]
