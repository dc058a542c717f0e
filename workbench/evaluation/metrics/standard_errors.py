"""Standard errors over regions: how far a figure would move on other regions of the same world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 100


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error; None where it could not be measured."""

    value: float | None = None
    error: float | None = None


def share(hits: NDArray[np.bool_]) -> Estimate:
    """The share of (R,) hits."""
    return Estimate(float(hits.mean()), share_error(hits))


def mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of (R,) values."""
    return Estimate(float(values.mean()), mean_error(values))


def share_error(hits: NDArray[np.bool_]) -> float:
    """Binomial standard error of a share, from (R,) hits."""
    share = float(hits.mean())
    return float(np.sqrt(share * (1 - share) / len(hits)))


def mean_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean of (R,) values; 0 for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def bootstrap_weights(regions: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each region is drawn in each resample (with replacement, always the same draws): (B, R)."""
    return np.random.default_rng(0).multinomial(regions, np.full(regions, 1 / regions), size=resamples)


def bootstrap_error(figures: NDArray[np.float64]) -> float:
    """The spread of a figure over resamples, (B,), those left out in which it is undefined (NaN)."""
    defined = figures[~np.isnan(figures)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
