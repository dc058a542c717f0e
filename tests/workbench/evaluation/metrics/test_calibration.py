"""Calibration: known scales are recovered, known gaps are measured."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.metrics.calibration import (
    calibration_error,
    fit_sigmoid,
    fit_softmax,
    logits_of,
    recognition_calibration_errors,
)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def test_logits_of_scores_stay_finite() -> None:
    assert logits_of(np.array([0.5, _sigmoid(np.array(2.0))])) == pytest.approx([0.0, 2.0])
    assert np.isfinite(logits_of(np.array([0.0, 1.0]))).all()


def test_sigmoid_fit_finds_scale_and_bias_of_squeezed_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.uniform(0.0, 0.8, 60_000)  # tag scores between .5 and .7, as the asymmetric loss leaves them
    truth = rng.random(len(logits)) < _sigmoid(9.0 * logits - 5.0)
    fitted = fit_sigmoid(logits, truth)
    assert fitted["scale"] == pytest.approx(9.0, rel=0.05) and fitted["bias"] == pytest.approx(-5.0, rel=0.05)
    assert calibration_error(_sigmoid(fitted["scale"] * logits + fitted["bias"]), truth) < 0.01


def test_softmax_fit_finds_the_scale() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 8))
    chances = np.exp(3.0 * logits) / np.exp(3.0 * logits).sum(axis=1, keepdims=True)
    truth = (chances.cumsum(axis=1) > rng.random((len(logits), 1))).argmax(axis=1)
    assert fit_softmax(logits, truth) == {"scale": pytest.approx(3.0, rel=0.05), "bias": 0.0}


def test_calibration_error_by_hand() -> None:
    # Two bins of two: .1 predicted and half observed, .9 predicted and all observed; gaps .4 and .1, equally heavy.
    probabilities = np.array([0.1, 0.1, 0.9, 0.9])
    correct = np.array([True, False, True, True])
    assert calibration_error(probabilities, correct) == pytest.approx((0.4 + 0.1) / 2)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0


def test_many_impossible_answers_do_not_hide_the_others() -> None:
    probabilities = np.array([*[0.0] * 98, 0.5, 0.5])
    correct = np.array([*[False] * 98, True, True])
    assert calibration_error(probabilities, correct) == pytest.approx(0.01)
    assert calibration_error(probabilities, correct, first=1) == pytest.approx(0.5)
    assert calibration_error(probabilities[:98], correct[:98], first=1) is None


def test_errors_per_task_leave_unknown_attributes_out() -> None:
    probabilities = {
        Task.CATEGORIES: np.array([[0.7, 0.3], [0.2, 0.8]]),
        Task.TAGS: np.array([[1.0, 0.0], [1.0, 0.0]]),
        Task.ATTRIBUTES: np.array([[1.0], [0.0]]),
    }
    errors = recognition_calibration_errors(
        probabilities,
        categories=np.array([0, 1]),
        tags=np.array([[True, False], [False, False]]),
        attributes=np.array([[1], [-1]], dtype=np.int8),
    )
    # The best categories have .7 and .8, both correct. One of four tags is entirely wrong.
    assert errors == {"categories": pytest.approx(0.25), "tags": pytest.approx(0.25), "attributes": 0.0}
