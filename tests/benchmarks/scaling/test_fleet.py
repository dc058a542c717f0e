"""The simulated service: nothing is lost, a seed gives the same run, routers and bottlenecks are as they must be."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.scaling import sizing
from benchmarks.scaling.costs import CallCosts, Costs, ImageCosts
from benchmarks.scaling.fleet import Fleet, Outcome, Plan, closed_loop, open_loop
from benchmarks.scaling.replicas import Curve, DeviceCosts
from benchmarks.scaling.routing import OURS, POLICIES, ROUTERS, Knowledge
from benchmarks.scaling.sizing import (
    Prices,
    Way,
    alone,
    capacities,
    carried,
    cells,
    needed,
    one_cluster,
    one_edge,
    run,
)
from benchmarks.scaling.traffic import ImageSize, Mix, arrivals, bursts, daily, steady

MIX = Mix((ImageSize(1.0, 1.0),), 4.0)
DEVICE = DeviceCosts("test", 16, rate=Curve.of({1: 20.0, 16: 100.0}))
COSTS = Costs(
    mix=MIX,
    images=(ImageCosts(1.0, 100_000, 0.002, 0.0, 0.002),),
    device=DEVICE,
    request_s=0.001,
    answered_region_s=0.0002,
    edge=CallCosts(0.001, 0.0001, 0.001),
    replica=CallCosts(0.001, 0.0, 0.001),
    sender=CallCosts(0.0005, 0.0001),
    receiver=CallCosts(0.0005, 0.0001),
    order_s=Curve.of({10: 1e-5, 1000: 1e-3}, proportional=True),
    controller_s=0.03,
    controller_replica_s=0.0002,
    view_bytes=450_000,
    answer_bytes=2_000,
)
FREE = replace(
    COSTS,
    request_s=0.0,
    answered_region_s=0.0,
    edge=CallCosts(),
    replica=CallCosts(),
    sender=CallCosts(),
    receiver=CallCosts(),
)


@pytest.fixture(autouse=True)
def short_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "LEAST_REQUESTS", 2_000)
    monkeypatch.setattr(sizing, "CELL_GPUS", 4)


def simulated(
    plan: Plan, load: float, costs: Costs = COSTS, seconds: float = 20.0, seed: int = 0, **options: object
) -> Outcome:
    """An open loop at a share of what the devices can do."""
    rate = load * plan.gpus * costs.device.regions_per_s / MIX.regions
    coming = arrivals(np.random.default_rng(seed), rate, MIX, seconds)
    return open_loop(plan, costs, coming, seconds, seconds / 4, seed, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("load", [0.5, 3.0])
def test_every_request_ends_once(load: float) -> None:
    found = simulated(Plan(2, 2, timeout_s=3.0), load)
    assert sum(found.what.values()) == found.arrived > 100
    if load < 1:
        assert set(found.what) == {"answered"} and not found.again
    else:
        assert found.what["late"] > 0 and found.what["answered"] > 0


def test_an_edge_refuses_what_its_queue_has_no_room_for() -> None:
    found = simulated(Plan(1, 1), 8.0, seconds=10.0)
    assert found.what["refused"] > 0 and sum(found.what.values()) == found.arrived


def test_killed_replicas_lose_no_request() -> None:
    def kill(fleet: Fleet) -> None:
        fleet.clock.at(8.0, fleet.kill, 0, 0.2, 5.0)

    found = simulated(Plan(4, 2), 0.5, prepare=kill)
    assert dict(found.what) == {"answered": found.arrived}
    assert found.again["died"] > 0


def test_a_seed_gives_the_same_run_and_another_one_another() -> None:
    one, same, other = (simulated(Plan(4, 2), 0.6, seed=seed) for seed in (1, 1, 2))
    assert one.latencies_s == same.latencies_s != other.latencies_s


def test_throughput_is_what_arrives_while_it_is_carried_and_the_device_s_rate_beyond() -> None:
    assert simulated(Plan(4, 4), 0.6, FREE, 40.0).regions_per_s == pytest.approx(0.6 * 400, rel=0.08)
    beyond = simulated(Plan(4, 4), 1.5, FREE, 40.0, drain=False)
    assert beyond.regions_per_s == pytest.approx(400, rel=0.05)
    assert beyond.used["device"] > 0.97


def test_a_closed_loop_has_as_many_requests_under_way_as_clients() -> None:
    found = closed_loop(Plan(1, 1, one_machine=True), FREE, 3, 2, 20.0, 2.0)
    mean_s = float(np.mean(found.latencies_s))
    assert found.regions_per_s / 2 * mean_s == pytest.approx(3, rel=0.02)  # Little's law


def test_whole_batches_take_what_waits_up_to_their_limit() -> None:
    batches = replace(FREE, device=DeviceCosts("CPU", 4, batch_s=Curve.of({1: 0.1, 4: 0.2}, proportional=True)))
    found = closed_loop(Plan(1, 1, one_machine=True), batches, 16, 1, 50.0, 5.0)
    assert found.regions_per_s == pytest.approx(4 / 0.2, rel=0.05)
    lone = closed_loop(Plan(1, 1, one_machine=True), batches, 1, 1, 50.0, 5.0)
    assert lone.ms(50) == pytest.approx(100 + 4, rel=0.01)  # and the image


def test_shared_cores_slow_everything_down() -> None:
    apart = closed_loop(Plan(2, 1, one_machine=True, workers=2), COSTS, 8, 2, 30.0, 5.0)
    device = replace(COSTS, device=DeviceCosts("CPU", 4, batch_s=Curve.of({1: 0.02, 4: 0.04}, proportional=True)))
    together = closed_loop(Plan(2, 1, one_machine=True, workers=2, shared_cores=1), device, 8, 2, 30.0, 5.0)
    free = closed_loop(Plan(2, 1, one_machine=True, workers=2), device, 8, 2, 30.0, 5.0)
    assert together.regions_per_s < 0.7 * free.regions_per_s and apart.regions_per_s > 0


@pytest.mark.parametrize("better", ["two choices, if it were known", "fewest, if it were known"])
def test_to_know_is_better_than_to_guess(better: str) -> None:
    by_router = {name: simulated(Plan(16, 8, policy=name), 0.85, FREE, 30.0).ms(99) for name in ("random", better)}
    assert by_router[better] < by_router["random"]


def test_an_edge_alone_knows_enough_by_what_it_has_sent() -> None:
    own, known = (
        simulated(Plan(16, 1, 64, policy=name), 0.85, FREE, 30.0).ms(99) for name in (OURS, "fewest, if it were known")
    )
    assert own == pytest.approx(known, rel=0.1)


@pytest.mark.parametrize("name", ROUTERS)
def test_no_router_chooses_a_replica_that_is_down(name: str) -> None:
    known, rng, choose = Knowledge(4, 4), np.random.default_rng(0), POLICIES[name]()
    known.up[1] = False
    places = {choose(known, 0, rng) for _ in range(200)}
    assert places <= {0, 2, 3}


def test_every_part_can_be_what_is_full_first() -> None:
    def first(plan: Plan, **changed: object) -> str:
        return next(iter(capacities(plan, replace(COSTS, **changed))))  # type: ignore[arg-type]

    many = Plan(16, 16)
    assert first(many) == "device"
    assert first(replace(many, edges=1)) == "edge's process"
    assert first(many, images=(ImageCosts(1.0, 1, 0.5, 0.0, 0.5),)) == "image work"
    assert (
        first(replace(many, edge_gbit=0.01)) == "edge's network, in"
        or first(replace(many, edge_gbit=0.01)) == "edge's network, out"
    )
    assert first(replace(many, gpu_gbit=0.1)) == "GPU machine's network"
    assert first(many, sender=CallCosts(1.0)) == "edge's object store"
    assert first(many, receiver=CallCosts(1.0)) == "GPU machine's object store"
    assert first(many, replica=CallCosts(1.0)) == "replica's process"


def test_what_is_full_first_in_theory_is_full_in_the_simulation() -> None:
    plan = Plan(16, 1)
    parts = capacities(plan, COSTS)
    found = run(plan, COSTS, 0.95 * next(iter(parts.values())))
    assert max(found.used, key=found.used.__getitem__) == next(iter(parts)) == "edge's process"
    assert found.used["edge's process"] == pytest.approx(0.95, abs=0.07)


def test_what_is_carried_keeps_the_bound_on_latency() -> None:
    found = carried(cells(4, COSTS, 8), COSTS, 600.0, Prices())
    assert 0.2 < found.share < 1 and found.p99_ms <= 600
    assert carried(cells(4, COSTS, 8), COSTS, 1.0, Prices()).regions_per_s == 0  # nothing is as fast


def test_copies_carry_so_many_times_as_much_and_cost_the_same_by_region() -> None:
    few, many = (carried(alone(gpus, COSTS, 8), COSTS, 600.0, Prices()) for gpus in (1, 50))
    assert many.regions_per_s == pytest.approx(50 * few.regions_per_s, rel=0.01)
    assert many.dollars_per_million == few.dollars_per_million


def test_a_plan_whose_edges_have_time_for_nothing_else_is_not_simulated() -> None:
    assert one_edge(1_000, COSTS, 8).plan is not None, "many replicas are asked less often"
    assert "not simulated" in one_cluster(1_000, COSTS, 8).why_not
    assert one_cluster(100, COSTS, 8).plan is not None
    with pytest.raises(ValueError, match="an edge asks"):
        simulated(Plan(1_000, 1, ask_each_s=0.0), 0.01)
    none = carried(one_cluster(1_000, COSTS, 8), COSTS, 600.0, Prices())
    assert none.regions_per_s == 0 and none.why_not


def test_prices_are_those_of_gpus_and_edges_cores() -> None:
    way = Way("cells", Plan(2, 3, 10))
    assert way.plan is not None
    assert Prices(3.0, 0.1).per_million(way.plan, 100.0) == pytest.approx((6 + 3) / 360_000 * 1e6)


def test_what_is_needed_carries_what_is_asked() -> None:
    found = needed(1_000.0, COSTS, 8, 600.0, Prices())
    assert found.gpus >= 10 and found.cells == -(-found.gpus // 4) and found.edges >= 1
    assert found.gbit_views == pytest.approx(1_000 * 450_000 * 8 / 1e9)
    with pytest.raises(ValueError, match="positive"):
        needed(0.0, COSTS, 8, 600.0, Prices())
    with pytest.raises(ValueError, match="p99"):
        needed(10.0, COSTS, 8, 1.0, Prices())


@pytest.mark.parametrize(("shape", "most"), [(steady, 1.0), (daily(10.0), 1.6), (bursts(10.0, 2.0, 3.0), 3.0)])
def test_arrivals_have_their_mean_whatever_their_shape(shape: object, most: float) -> None:
    coming = list(arrivals(np.random.default_rng(0), 100.0, MIX, 100.0, shape, most))  # type: ignore[arg-type]
    times, _, regions = zip(*coming, strict=True)
    assert len(coming) == pytest.approx(10_000, rel=0.04) and list(times) == sorted(times)
    assert np.mean(regions) == pytest.approx(4.0, rel=0.05) and min(regions) == 1 and max(regions) <= 64


def test_a_mix_must_add_up() -> None:
    with pytest.raises(ValueError, match="add up"):
        Mix((ImageSize(1.0, 0.5),), 4.0)
    with pytest.raises(ValueError, match="from 1 to 64"):
        Mix((ImageSize(1.0, 1.0),), 65.0)
    with pytest.raises(ValueError, match="positive"):
        next(arrivals(np.random.default_rng(0), 0.0, MIX, 1.0))
