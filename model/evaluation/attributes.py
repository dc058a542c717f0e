"""Attributes: mean average precision with unknown labels left out.

The measure of the OVAD benchmark (arXiv 2211.12914).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]


def average_precisions(scores: NDArray[np.float64], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """Average precision of each attribute, (A,); NaN where no known region is positive.

    scores: (R, A). targets: (R, A): 1, 0, or -1 where unknown; unknown entries count for nothing.
    """
    if scores.shape != targets.shape:
        raise ValueError(f"scores are {scores.shape} but targets {targets.shape}")
    found = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        known = targets[:, column] >= 0
        positive = targets[known, column] == 1
        if positive.any():
            found[column] = average_precision_score(positive, scores[known, column])
    return found


def mean_average_precision(precisions: NDArray[np.float64]) -> float:
    """The mean over the attributes that have a positive region; NaN where none has."""
    measured = precisions[~np.isnan(precisions)]
    return float(measured.mean()) if len(measured) else float("nan")
