"""Categories and tags: accuracy, micro-averaged F1, and the threshold that serves it best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_hits(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(R,): whether the best of the scores (R, K) is the true category (R,)."""
    hits: NDArray[np.bool_] = scores.argmax(axis=1) == truth
    return hits


def tag_counts(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(R, 3): true positives, false positives and false negatives of each region; both inputs (R, T)."""
    counts = (predicted & truth, predicted & ~truth, ~predicted & truth)
    return np.stack([each.sum(axis=1) for each in counts], axis=1).astype(np.int64)


def micro_f1(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 from sums of `tag_counts` over regions: (..., 3) -> (...); 0 where nothing is right."""
    right, wrong, missed = np.moveaxis(totals, -1, 0)
    f1: NDArray[np.float64] = 2 * right / np.maximum(2 * right + wrong + missed, 1)
    return f1


def best_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold of the highest micro F1, and that F1. Both inputs (R, T); what is strictly above is kept.

    Scores are >= 0. It lies midway between the last score that is kept and the first that is not, or 0.
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, right = scores.ravel()[order], np.cumsum(truth.ravel()[order])
    kept = np.arange(1, len(ranked) + 1)
    f1 = 2 * right / (kept + truth.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1.0  # equal scores cannot be parted
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2), float(f1[best])
