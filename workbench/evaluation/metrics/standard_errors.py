"""Estimates with standard errors over regions: analytic for proportions and means, bootstrapped for other metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 100


@dataclass(frozen=True)
class Estimate:
    """A metric with its standard error; None where it was not measured."""

    value: float | None = None
    error: float | None = None


def proportion(hits: NDArray[np.bool_]) -> Estimate:
    """The proportion of hits, (R,), with its binomial standard error."""
    return Estimate(float(hits.mean()), proportion_error(hits))


def mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of values, (R,), with its standard error."""
    return Estimate(float(values.mean()), mean_error(values))


def proportion_error(hits: NDArray[np.bool_]) -> float:
    """Binomial standard error of the proportion of hits, (R,)."""
    rate = float(hits.mean())
    return float(np.sqrt(rate * (1 - rate) / len(hits)))


def mean_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean of (R,) values; 0 for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def bootstrap_weights(regions: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each region is drawn in each bootstrap resample, (B, R); the same draws every time."""
    return np.random.default_rng(0).multinomial(regions, np.full(regions, 1 / regions), size=resamples)


def bootstrap_error(values: NDArray[np.float64]) -> float:
    """Standard deviation of a metric over resamples, (B,), without those where it is undefined (NaN)."""
    defined = values[~np.isnan(values)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
