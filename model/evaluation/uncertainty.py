"""Standard errors over regions: how far a figure would move on other regions of the same world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 100


def share_error(hits: NDArray[np.bool_]) -> float:
    """Binomial standard error of a share, from (R,) hits."""
    share = float(hits.mean())
    return float(np.sqrt(share * (1 - share) / len(hits)))


def mean_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean of (R,) values; 0 for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def bootstrap_errors(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], regions: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Standard deviation of `statistic` over resampled regions (with replacement, always the same draws).

    statistic: (R,) indices of regions -> (M,) values, which may be NaN in single resamples.
    """
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.integers(regions, size=regions)) for _ in range(resamples)]
    errors: NDArray[np.float64] = np.nanstd(np.stack(drawn), axis=0, ddof=1)
    return errors
