"""Calibration of probabilities: fitting a scale and a bias of the logits, and the expected calibration error.

Methods: Platt scaling for binary labels; temperature scaling for one of many; the expected calibration error with bins
of equal width (Guo et al., arXiv 1706.04599). Shapes: R = regions, K = categories, T = tags, A = attributes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import logit as inverse_sigmoid
from sklearn.linear_model import LogisticRegression

from dynrefer.model.types import Task

BINS = 15
_EPSILON = 1e-7  # a float32 sigmoid can be exactly 0 or 1, where the logit is infinite


def logits_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in [0, 1] -> logits, clipped so that they are finite."""
    logits: NDArray[np.float64] = inverse_sigmoid(np.clip(scores, _EPSILON, 1 - _EPSILON))
    return logits


def fit_sigmoid(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    """{"scale", "bias"} of sigmoid(scale * logit + bias), by maximum likelihood; inputs (N,), both classes present."""
    # Raw logits may span less than one unit; standardised ones suit the solver.
    centre, spread = float(logits.mean()), float(logits.std()) or 1.0
    fitted = LogisticRegression(C=1e6).fit(((logits - centre) / spread)[:, None], truth)
    scale = float(fitted.coef_[0, 0]) / spread
    return {"scale": scale, "bias": float(fitted.intercept_[0]) - scale * centre}


def fit_softmax(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """{"scale", "bias": 0} of softmax(scale * logits), by maximum likelihood; logits: (R, K), truth: (R,)."""
    rows = np.arange(len(truth))

    def loss(log_scale: float) -> float:
        return -float(log_softmax(np.exp(log_scale) * logits, axis=1)[rows, truth].mean())

    found = minimize_scalar(loss, bounds=(np.log(1e-3), np.log(1e3)), method="bounded")
    return {"scale": float(np.exp(found.x)), "bias": 0.0}


def calibration_error(
    probabilities: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = BINS, first: int = 0
) -> float | None:
    """Expected calibration error: the mean gap between predicted probability and observed frequency; inputs (N,).

    Bins of equal width over [0, 1], weighted by their counts. first: bins before it are left out; None if no value is
    left.
    """
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, probabilities - correct, minlength=bins)[first:]
    count = int((place >= first).sum())
    return float(np.abs(gaps).sum() / count) if count else None


def recognition_calibration_errors(
    probabilities: Mapping[Task, NDArray[np.float64]],
    categories: NDArray[np.int64],
    tags: NDArray[np.bool_],
    attributes: NDArray[np.int8],
    first: int = 0,
) -> dict[str, float | None]:
    """Expected calibration error per task: over all tags, all known attributes, and the best category of each region.

    first: bins before it are left out. Most tags and attributes rightly have a probability near 0 and make the error
    small whatever the others are.
    probabilities: task -> (R, T | A | K). categories: (R,). tags: (R, T). attributes: (R, A), -1 unknown.
    """
    known = attributes >= 0
    best = probabilities[Task.CATEGORIES]
    return {
        "tags": calibration_error(probabilities[Task.TAGS].ravel(), tags.ravel(), first=first),
        "attributes": calibration_error(probabilities[Task.ATTRIBUTES][known], attributes[known] == 1, first=first),
        "categories": calibration_error(best.max(axis=1), best.argmax(axis=1) == categories, first=first),
    }
