"""Two models on the same regions: the difference of a metric, with an interval by a paired bootstrap over images.

Regions of one image are not independent, so whole images are drawn. Both models are measured on the same draws, so
that what is hard for both cancels out. Shapes: R = regions, B = draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.workbench.evaluation.report.tables import json_values

DRAWS, LEVEL = 1_000, 0.95

Weights = NDArray[np.int64]
# (B, R) counts of the regions -> (B,) the metric of one model; NaN where it is undefined.
Metric = Callable[[Weights], NDArray[np.float64]]


@dataclass(frozen=True)
class Difference:
    """A metric of the model before and after. low, high: of the difference, the interval of `LEVEL`; None where there
    is nothing to draw from. regions, images: what it was measured on."""

    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    regions: int
    images: int

    def as_json(self) -> dict[str, Any]:
        """Rounded to 4 decimals."""
        numbers = {name: getattr(self, name) for name in ("before", "after", "difference", "low", "high")}
        return {**json_values(numbers), "regions": self.regions, "images": self.images}


def compare(before: Metric, after: Metric, images: NDArray[np.intp], draws: int = DRAWS) -> Difference:
    """images: (R,) the image of each region that is measured; the same draws in every call with the same images."""
    _, places = np.unique(images, return_inverse=True)
    count = int(places.max()) + 1 if len(places) else 0
    if not count:
        return Difference(None, None, None, None, None, 0, 0)
    whole = np.ones((1, len(images)), dtype=np.int64)
    values = [_defined(metric(whole)[0]) for metric in (before, after)]
    one, other = values
    difference = None if one is None or other is None else other - one
    low = high = None
    if difference is not None and count > 1:
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)[:, places]
        changes = after(drawn) - before(drawn)
        changes = changes[~np.isnan(changes)]
        if len(changes):
            low, high = (float(edge) for edge in np.quantile(changes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Difference(one, other, difference, low, high, len(images), count)


def _defined(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def mean_of(values: NDArray[np.float64]) -> Metric:
    """The mean of one value per region, (R,)."""

    def metric(weights: Weights) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weights @ values / np.maximum(weights.sum(axis=1), 1)
        return found

    return metric
