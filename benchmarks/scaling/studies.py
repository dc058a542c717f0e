"""What docs/scaling.md shows: ways of building by number of GPUs, routers by load, changes, and what happens on a bad
day. Each returns rows for the file of results."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.scaling.costs import CallCosts, Costs
from benchmarks.scaling.fleet import Fleet, Plan, open_loop
from benchmarks.scaling.replicas import Curve
from benchmarks.scaling.routing import ROUTERS
from benchmarks.scaling.sizing import (
    CELL_GPUS,
    Prices,
    alone,
    as_row,
    capacities,
    carried,
    cells,
    edges_for,
    one_cluster,
    one_edge,
    run,
)
from benchmarks.scaling.traffic import Shape, arrivals, bursts, daily, steady

GPUS = (1, 2, 10, 100, 1_000)
ROUTER_GPUS, ROUTER_EDGES, ROUTER_CORES = 32, 16, 1024
ROUTER_CASES = (*((ROUTER_EDGES, load) for load in (0.5, 0.7, 0.85, 0.92)), (1, 0.85), (64, 0.85))  # edges, load
NOTHING = Curve.of({1: 0.0}, proportional=True)
EVENT_LOAD, EVENT_S, KILL_S = 0.6, 40.0, 15.0
NOTICED_S, RESTART_S = 0.2, 20.0  # start to ready of the full model, docs/performance.md
OVERLOAD, OVERLOAD_LOAD, OVERLOAD_TIMEOUT_S = "twice what the devices can do, deadline 10 s", 2.0, 10.0
ALONE = f"{OVERLOAD}, if an edge counted only its own"
DAY_S = 40.0  # a day, so that a run sees one: queues follow within a second


def ways(costs: Costs, edge_cores: int, p99_ms: float, prices: Prices) -> list[dict[str, Any]]:
    """What each way carries, by number of GPUs."""
    rows = []
    for gpus in GPUS:
        for way in (one_edge, one_cluster, cells, alone):
            row = as_row(carried(way(gpus, costs, edge_cores), costs, p99_ms, prices))
            rows.append({**row, "gpus": gpus})
            print(f"{gpus} GPUs, {row['way']}: {row['regions_per_s']:g} regions/s {row['why_not']}", file=sys.stderr)
    return rows


def parts(costs: Costs, edge_cores: int) -> list[dict[str, Any]]:
    """Regions per second at which each part is full, one edge and a cluster of edges."""
    rows = []
    for gpus in GPUS:
        for name, edges in (("one edge", 1), ("one cluster", _edges(gpus, costs, edge_cores))):
            if edges:
                full_at = _full_at(Plan(gpus, edges, edge_cores), costs)
                rows.append({"gpus": gpus, "way": name, "edges": edges, "full_at": full_at})
    return rows


def _full_at(plan: Plan, costs: Costs) -> dict[str, int]:
    return {part: round(rate) for part, rate in capacities(plan, costs).items() if rate < math.inf}


def _edges(gpus: int, costs: Costs, edge_cores: int) -> int:
    try:
        return edges_for(gpus, costs, edge_cores)
    except ValueError:
        return 0


def routers(costs: Costs) -> list[dict[str, Any]]:
    """Latencies by router, load and number of edges, where nothing but the devices and image work takes any time."""
    free = CallCosts()
    costs = replace(
        costs,
        request_s=0.0,
        answered_region_s=0.0,
        edge=free,
        replica=free,
        sender=free,
        receiver=free,
        order_s=NOTHING,
    )
    rows = []
    for router in ROUTERS:
        for edges, share in ROUTER_CASES:
            plan = Plan(ROUTER_GPUS, edges, ROUTER_CORES // edges, gpus_per_machine=1, policy=router)
            found = run(plan, costs, share * ROUTER_GPUS * costs.device.regions_per_s)
            rows.append(
                {"router": router, "gpus": ROUTER_GPUS, "edges": edges, "load": share}
                | {"p50_ms": round(found.ms(50), 1), "p99_ms": round(found.ms(99), 1)}
            )
    return rows


def changes(costs: Costs, edge_cores: int, p99_ms: float, prices: Prices) -> list[dict[str, Any]]:
    """What a cell carries, and with how many edges, if something were different."""
    sizes = costs.mix.sizes
    small = [replace(image, megapixels=size.megapixels) for size, image in zip(sizes, costs.images, strict=True)]
    small[-1] = replace(costs.images[-2], megapixels=sizes[-1].megapixels)
    at_replicas = replace(
        costs,
        images=tuple(replace(each, decode_s=0.0, views_s=0.0, region_s=0.0) for each in costs.images),
        view_bytes=round(costs.request_bytes / costs.mix.regions),
        edge=replace(costs.edge, region_s=0.0),
        sender=replace(costs.sender, region_s=0.0),
        receiver=replace(costs.receiver, region_s=0.0),
    )
    given: dict[str, tuple[Costs, dict[str, Any]]] = {
        "as it is": (costs, {}),
        "clients send no more than a screen's pixels": (replace(costs, images=tuple(small)), {}),
        "a Ray node (pod) per card": (costs, {"gpus_per_machine": 1, "gpu_gbit": 12.5}),
        "replicas cut the views, of files that edges pass on": (at_replicas, {}),
        "the edge's process takes half": (_halved(costs), {}),
    }
    rows = []
    for name, (changed, options) in given.items():
        way = cells(CELL_GPUS, changed, edge_cores)
        assert way.plan is not None
        plan = replace(way.plan, **options)
        found = carried(replace(way, plan=plan), changed, p99_ms, prices)
        rows.append({"change": name, **as_row(found), "full_at": _full_at(plan, changed)})
    return rows


def _halved(costs: Costs) -> Costs:
    edge = costs.edge
    return replace(
        costs,
        request_s=costs.request_s / 2,
        answered_region_s=costs.answered_region_s / 2,
        edge=CallCosts(edge.call_s / 2, edge.region_s / 2, edge.question_s / 2),
    )


def events(costs: Costs, edge_cores: int) -> list[dict[str, Any]]:
    """A cell at a load that it carries, while something happens."""
    way = cells(CELL_GPUS, costs, edge_cores)
    assert way.plan is not None

    def kill_one(fleet: Fleet) -> None:
        fleet.clock.at(KILL_S, fleet.kill, 0, NOTICED_S, RESTART_S)

    def kill_four(fleet: Fleet) -> None:
        for replica in range(4):
            fleet.clock.at(KILL_S, fleet.kill, replica, NOTICED_S, RESTART_S)

    nothing = lambda fleet: None  # noqa: E731
    given: dict[str, tuple[Shape, float, Any]] = {
        "steady": (steady, 1.0, nothing),
        ALONE: (lambda time: OVERLOAD_LOAD / EVENT_LOAD, OVERLOAD_LOAD / EVENT_LOAD, nothing),
        OVERLOAD: (lambda time: OVERLOAD_LOAD / EVENT_LOAD, OVERLOAD_LOAD / EVENT_LOAD, nothing),
        "a day as a wave, 40 to 160 % of the mean": (daily(DAY_S), 1.6, nothing),
        "bursts: twice the rest for 2 s in 10": (bursts(10.0, 2.0, 2.0), 2.0, nothing),
        "one replica is killed": (steady, 1.0, kill_one),
        "four replicas are killed at once": (steady, 1.0, kill_four),
    }
    rate = EVENT_LOAD * CELL_GPUS * costs.device.regions_per_s / costs.mix.regions
    rows = []
    for name, (shape, most, happens) in given.items():
        coming = arrivals(np.random.default_rng([0, 0]), rate, costs.mix, EVENT_S, shape, most)
        plan = way.plan
        if name in (OVERLOAD, ALONE):
            plan = replace(plan, timeout_s=OVERLOAD_TIMEOUT_S, counts_others=name == OVERLOAD)
        found = open_loop(plan, costs, coming, EVENT_S, 5.0, prepare=happens)
        rows.append(
            {"event": name, "gpus": CELL_GPUS, "edges": plan.edges, "requests": found.arrived}
            | {"regions_per_s": round(found.regions_per_s)}
            | {"ended": dict(found.what), "made again": dict(found.again)}
            | {"p50_ms": round(found.ms(50), 1), "p99_ms": round(found.ms(99), 1)}
        )
    return rows
