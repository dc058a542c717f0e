"""Serve's controller counts on when the clock of the day is set back."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.serve._private import deployment_state

from dynrefer.service.scale.ray.clock import SteadyTime, steady


@pytest.fixture
def module() -> Iterator[Any]:
    """Serve's module, as it was afterwards."""
    yield deployment_state
    deployment_state.time = time  # type: ignore[attr-defined]


def test_serve_still_counts_by_a_module_time_of_its_own(module: Any) -> None:
    assert module.time is time  # else `steady` changes nothing


def test_a_clock_that_is_set_back_is_not_seen(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steady()
    before = module.time.time()
    assert abs(before - time.time()) < 60
    monkeypatch.setattr(time, "time", lambda: before - 3600)
    assert 0 <= module.time.time() - before < 60


def test_the_first_start_counts(module: Any) -> None:
    steady()
    first = module.time
    steady()
    assert module.time is first and isinstance(first, SteadyTime)


def test_what_else_the_module_has_is_there(module: Any) -> None:
    steady()
    assert module.time.monotonic is time.monotonic
