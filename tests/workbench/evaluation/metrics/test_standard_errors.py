"""Standard errors of proportions and means, and the bootstrap, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.workbench.evaluation.metrics.standard_errors import (
    bootstrap_error,
    bootstrap_weights,
    mean_error,
    proportion_error,
)


def test_errors_of_proportions_and_means() -> None:
    hits = np.array([True] * 75 + [False] * 25)
    assert proportion_error(hits) == pytest.approx(np.sqrt(0.75 * 0.25 / 100))
    assert mean_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
    assert mean_error(np.array([1.0])) == 0.0


def test_bootstrap_agrees_with_the_binomial_and_repeats() -> None:
    hits = np.random.default_rng(3).random(2_000) < 0.8
    weights = bootstrap_weights(len(hits))
    assert (weights.sum(axis=1) == len(hits)).all()
    assert bootstrap_error(weights @ hits / len(hits)) == pytest.approx(proportion_error(hits), rel=0.25)
    assert (weights == bootstrap_weights(len(hits))).all()
    assert bootstrap_error(np.array([1.0, np.nan, 3.0])) == pytest.approx(np.sqrt(2))
    assert np.isnan(bootstrap_error(np.array([np.nan, 1.0])))
