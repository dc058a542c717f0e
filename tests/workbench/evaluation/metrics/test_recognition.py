"""Accuracy, tag F1 and its threshold, attribute mAP, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.workbench.evaluation.metrics.recognition import (
    attribute_metrics,
    average_precisions,
    best_threshold,
    mean_average_precision,
    micro_f1,
    tag_counts,
    top_hits,
    weighted_average_precisions,
)


def test_top_hits() -> None:
    scores = np.array([[0.1, 3.0, -2.0], [5.0, 3.0, 4.0], [-3.0, -2.0, -1.0]])
    assert top_hits(scores, np.array([1, 2, 2])).tolist() == [True, False, True]


def test_micro_f1_counts_all_regions_together() -> None:
    predicted = np.array([[1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    truth = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    counts = tag_counts(predicted, truth)
    assert counts.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert micro_f1(counts.sum(axis=0)) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert micro_f1(tag_counts(np.zeros_like(predicted), truth).sum(axis=0)) == 0.0


def test_best_threshold_lies_between_the_last_kept_and_the_first_dropped() -> None:
    scores = np.array([[0.9, 0.8, 0.6, 0.3]])
    truth = np.array([[True, True, False, False]])
    assert best_threshold(scores, truth) == (pytest.approx(0.7), pytest.approx(1.0))
    # One more right one further down: keeping three gives 2*2/(3+3), keeping four 2*3/(4+3).
    assert best_threshold(scores, np.array([[True, True, False, True]])) == (
        pytest.approx(0.15),
        pytest.approx(6 / 7),
    )


def test_best_threshold_does_not_part_equal_scores() -> None:
    scores = np.array([[0.8, 0.5, 0.5, 0.1]])
    threshold, f1 = best_threshold(scores, np.array([[True, True, False, False]]))
    assert f1 == pytest.approx(2 * 2 / (3 + 2)) and threshold == pytest.approx(0.3)
    kept = tag_counts(scores > threshold, np.array([[True, True, False, False]]))
    assert micro_f1(kept.sum(axis=0)) == pytest.approx(f1)


def test_average_precision_leaves_unknown_labels_out() -> None:
    scores = np.array([[0.9, 0.2, 0.5], [0.8, 0.9, 0.5], [0.7, 0.1, 0.5], [0.6, 0.3, 0.5]])
    # First: ranks 1 (positive), 2 (unknown: not there), then negative, then positive: (1/1 + 2/3) / 2.
    # Second: only the last two are known, the positive one second: 1/2. Third: no positive.
    targets = np.array([[1, -1, 0], [-1, -1, 0], [0, 1, -1], [1, 0, -1]], dtype=np.int8)
    found = average_precisions(scores, targets)
    assert found[:2] == pytest.approx([(1 + 2 / 3) / 2, 1 / 2]) and np.isnan(found[2])
    assert mean_average_precision(found) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert np.isnan(mean_average_precision(found[2:]))


def test_attribute_figures_of_unequal_groups() -> None:
    scores = np.array(
        [[0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9], [0.5, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5], [0.1] * 4 + [0.5, 0.1, 0.1]]
    )
    targets = np.array([[1, 0, 0, 0, -1, 0, 0], [0, 1, 0, -1, 1, 1, 1], [0, 0, 1, 0, 0, -1, 0]], dtype=np.int8)
    # Average precisions: a 1, b 1/2, c 1/3, d none (no positive), e 1, f 1/2, g 1/2; g is in no group.
    groups = {"a": "head", "f": "head", "b": "medium", "c": "tail", "d": "tail", "e": "tail"}
    found = attribute_metrics(scores, targets, "abcdefg", groups)
    values = {name: estimate.value for name, estimate in found.items()}
    assert values == pytest.approx(
        {
            "map": (1 + 1 / 2 + 1 / 3 + 1 + 1 / 2 + 1 / 2) / 6,
            "map_head": (1 + 1 / 2) / 2,
            "map_medium": 1 / 2,
            "map_tail": (1 / 3 + 1) / 2,
        }
    )


def test_average_precision_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        average_precisions(np.zeros((2, 3)), np.zeros((3, 2), dtype=np.int8))


def test_weights_count_a_region_several_times() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((60, 4)).round(1), rng.integers(-1, 2, (60, 4)).astype(np.int8)  # many equal scores
    targets[:, 3] = 0
    targets[0, 3] = 1
    weights = rng.integers(0, 4, (5, 60))
    weights[:, 0] = (0, 1, 0, 2, 0)  # the one positive region of the last attribute
    found = weighted_average_precisions(scores, targets, weights)
    for row, weight in zip(found, weights, strict=True):
        repeated = np.repeat(np.arange(60), weight)
        assert row == pytest.approx(average_precisions(scores[repeated], targets[repeated]), nan_ok=True)
    assert np.isnan(found[:, 3]).tolist() == [True, False, True, False, True]
