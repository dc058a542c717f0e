"""The kernel against what queueing theory says, where it has a formula."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.scaling.kernel import Line, Servers, Shared, Simulation

JOBS = 250_000


def mean_time(add: Callable[[float, Callable[..., None]], None], clock: Simulation, rate: float, fixed: bool) -> float:
    """The mean time in the system of Poisson jobs of mean work 1. add: hands a job of so much work in."""
    rng = np.random.default_rng(7)
    gaps = rng.exponential(1 / rate, JOBS).tolist()
    works = (np.ones(JOBS) if fixed else rng.exponential(1, JOBS)).tolist()
    times: list[float] = []

    def arrive(number: int) -> None:
        began = clock.now
        add(works[number], lambda *_: times.append(clock.now - began))
        if number + 1 < JOBS:
            clock.at(clock.now + gaps[number], arrive, number + 1)

    clock.at(0.0, arrive, 0)
    clock.run()
    assert len(times) == JOBS
    return float(np.mean(times))


def erlang_c(servers: int, load: float) -> float:
    """The probability that a job waits, with so many servers and so much work offered (in servers)."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_server_with_exponential_work(load: float) -> None:
    clock = Simulation()
    assert mean_time(Servers(clock, 1).add, clock, load, False) == pytest.approx(1 / (1 - load), rel=0.06)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_server_with_fixed_work(load: float) -> None:
    clock = Simulation()
    expected = 1 + load / (2 * (1 - load))  # Pollaczek and Khinchine
    assert mean_time(Servers(clock, 1).add, clock, load, True) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(("servers", "use"), [(2, 0.8), (8, 0.9)])
def test_several_servers_wait_as_erlang_says(servers: int, use: float) -> None:
    clock = Simulation()
    load = servers * use
    expected = 1 + erlang_c(servers, load) / (servers - load)
    assert mean_time(Servers(clock, servers).add, clock, load, False) == pytest.approx(expected, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_a_shared_rate_takes_the_same_mean_time_whatever_the_work_s_distribution(fixed: bool) -> None:
    clock = Simulation()
    shared = Shared(clock, lambda jobs: 1.0)
    found = mean_time(lambda work, call: shared.add(1, work, call), clock, 0.7, fixed)
    assert found == pytest.approx(1 / (1 - 0.7), rel=0.06)


def test_cores_serve_as_many_jobs_at_full_speed_as_there_are_cores() -> None:
    clock = Simulation()
    cores = Shared(clock, lambda jobs: min(jobs, 2))
    ended: dict[str, float] = {}
    for name in ("one", "other", "third"):
        cores.add(1, 1.0, lambda name, _: ended.update({name: clock.now}), name)
    clock.run()
    assert list(ended.values()) == pytest.approx([1.5] * 3)


def test_units_without_a_place_wait_in_order_and_parts_of_a_job_end_apart() -> None:
    clock = Simulation()
    device = Shared(clock, lambda inside: float(inside), room=4)
    ended: list[tuple[str, int, float]] = []
    device.add(3, 1.0, lambda name, units: ended.append((name, units, clock.now)), "first")
    device.add(3, 1.0, lambda name, units: ended.append((name, units, clock.now)), "second")
    assert device.waiting == 2
    clock.run()
    assert ended == [("first", 3, 1.0), ("second", 1, 1.0), ("second", 2, 2.0)]
    assert device.done == pytest.approx(6) and device.busy_s == pytest.approx(2)


def test_what_is_cleared_ends_nowhere() -> None:
    clock = Simulation()
    ended: list[int] = []
    shared, servers = Shared(clock, lambda inside: 1.0), Servers(clock, 1)
    shared.add(1, 1.0, lambda _: ended.append(1))
    servers.add(1.0, lambda: ended.append(2))
    servers.add(1.0, lambda: ended.append(3))
    clock.at(0.5, shared.clear)
    clock.at(0.5, servers.clear)
    clock.at(0.6, servers.add, 1.0, lambda: ended.append(4))
    clock.run()
    assert ended == [4] and clock.now == pytest.approx(1.6)


def test_a_line_passes_one_thing_after_another() -> None:
    line = Line(10.0)
    assert line.send(5, 0.0) == 0.5
    assert line.send(5, 0.1) == 1.0  # behind the first
    assert line.send(5, 2.0) == 2.5 and line.passed == 15
