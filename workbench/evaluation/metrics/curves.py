"""The two curves of a report: precision over recall, and the reliability diagram of calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from dynrefer.workbench.evaluation.metrics.calibration import BINS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Precision over recall, both (N,)."""

    recall: Floats
    precision: Floats

    def thinned(self, points: int = 200) -> Curve:
        """At most `points` points, including the first and the last: enough for a plot."""
        kept = np.unique(np.linspace(0, len(self.recall) - 1, min(points, len(self.recall))).round().astype(np.int64))
        return Curve(self.recall[kept], self.precision[kept])


@dataclass(frozen=True)
class Reliability:
    """Per non-empty bin, each (B,): mean predicted probability, observed frequency, and number of values."""

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap, weighted by count."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.count))


@dataclass(frozen=True)
class Curves:
    """The curves of a report: name -> curve."""

    precision_recall: Mapping[str, Curve] = field(default_factory=dict)
    reliability: Mapping[str, Reliability] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Lists of rounded numbers, JSON-ready; precision-recall curves are thinned."""
        thinned = {name: curve.thinned() for name, curve in self.precision_recall.items()}
        return {
            "precision_recall": {
                name: {"recall": _rounded(curve.recall), "precision": _rounded(curve.precision)}
                for name, curve in thinned.items()
            },
            "reliability": {
                name: {
                    "promised": _rounded(bins.predicted),
                    "true": _rounded(bins.observed),
                    "count": bins.count.tolist(),
                }
                for name, bins in self.reliability.items()
            },
        }


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 4) for value in values]


def precision_recall(scores: Floats, truth: NDArray[np.bool_]) -> Curve:
    """From the scores and the truth of all labels together, both (N,); an empty curve if none is true."""
    if not truth.any():
        return Curve(np.zeros(0), np.zeros(0))
    precision, recall, _ = precision_recall_curve(truth, scores)
    return Curve(recall[::-1], precision[::-1])


def reliability(probabilities: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Bins of equal width over [0, 1], as in `calibration.calibration_error`; both inputs (N,)."""
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    kept = count > 0
    predicted = np.bincount(place, probabilities, minlength=bins)[kept] / count[kept]
    observed = np.bincount(place, correct, minlength=bins)[kept] / count[kept]
    return Reliability(predicted, observed, count[kept])
