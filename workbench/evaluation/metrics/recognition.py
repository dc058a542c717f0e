"""Categories, tags and attributes: accuracy, micro-averaged F1 and its best threshold, mean average precision.

Attributes follow the OVAD benchmark (Bravo et al., arXiv 2211.12914): average precision of each attribute over the
regions where it is known to be present or absent, and the mean over the attributes that are present at least once; the
same over its frequent, middling and rare attributes ("head", "medium", "tail").

Shapes: R = regions, K = categories, T = tags, A = attributes, B = bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, bootstrap_error, bootstrap_weights


def top_hits(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the highest of the scores, (R, K), is that of the true category, (R,) -> (R,)."""
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
    """The threshold of the highest micro F1, and that F1. Both inputs (R, T); labels strictly above it are kept.

    Scores are >= 0. The threshold lies midway between the lowest score that is kept and the highest that is not (0 if
    all are kept).
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, right = scores.ravel()[order], np.cumsum(truth.ravel()[order])
    kept = np.arange(1, len(ranked) + 1)
    f1 = 2 * right / (kept + truth.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1.0  # no threshold separates equal scores
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2), float(f1[best])


def average_precisions(scores: NDArray[np.float64], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """Average precision of each attribute, (A,); NaN where no known region is positive.

    scores: (R, A). targets: (R, A), 1, 0, or -1 where unknown; unknown entries are left out.
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


def weighted_average_precisions(
    scores: NDArray[np.float64], targets: NDArray[np.int8], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`average_precisions` with every region counted several times, for many weightings at once: (B, A).

    weights: (B, R) counts, as a bootstrap draws them. Calling scikit-learn for each weighting would take longer than
    the network does.
    """
    found = np.full((len(weights), scores.shape[1]), np.nan)
    for column in range(scores.shape[1]):
        known = np.flatnonzero(targets[:, column] >= 0)
        ranked = known[np.argsort(-scores[known, column], kind="stable")]
        falling = -scores[ranked, column]
        last_equal = np.searchsorted(falling, falling, side="right") - 1
        weight = weights[:, ranked].astype(np.float64)  # (B, known)
        positive = weight * (targets[ranked, column] == 1)
        kept = np.maximum(weight.cumsum(axis=1), 1.0)[:, last_equal]
        precision = positive.cumsum(axis=1)[:, last_equal] / kept
        total = positive.sum(axis=1)
        drawn = total > 0
        found[drawn, column] = (positive * precision).sum(axis=1)[drawn] / total[drawn]
    return found


def mean_average_precision(precisions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the last axis, attributes without a positive region (NaN) left out; NaN where none has one."""
    measured = ~np.isnan(precisions)
    total = np.where(measured, precisions, 0.0).sum(axis=-1)
    count = measured.sum(axis=-1)
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def attribute_metrics(
    scores: NDArray[np.float64], targets: NDArray[np.int8], names: Sequence[str], groups: Mapping[str, str]
) -> dict[str, Estimate]:
    """Mean average precision: "map", and "map_<group>" for each group in `groups` (attribute name -> group).

    scores, targets: (R, A), as in `average_precisions`. Standard errors are bootstrapped over regions.
    """
    weights = bootstrap_weights(len(scores))
    precisions = average_precisions(scores, targets)
    drawn = weighted_average_precisions(scores, targets, weights)

    def over(columns: NDArray[np.bool_]) -> Estimate:
        spread = bootstrap_error(mean_average_precision(drawn[:, columns]))
        return Estimate(float(mean_average_precision(precisions[columns])), spread)

    owner = np.array([groups.get(name, "") for name in names])
    metrics = {"map": over(np.ones(len(names), dtype=np.bool_))}
    return metrics | {f"map_{group}": over(owner == group) for group in dict.fromkeys(groups.values())}
