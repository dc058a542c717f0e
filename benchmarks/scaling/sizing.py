"""Capacity of every part of a plan, which of them is full first, what a plan carries within a bound on latency, and
what a million regions cost."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np

from benchmarks.scaling.costs import CallCosts, Costs
from benchmarks.scaling.fleet import Outcome, Plan, open_loop
from benchmarks.scaling.traffic import arrivals

LEAST_REQUESTS, LEAST_S = 10_000, 8.0  # of a simulation
WARM = 0.25  # of a simulation, that does not count
MOST_REFUSED = 0.001
STEPS = 6  # of the search: to 1/64 of the interval
EDGE_USE = 0.7  # how full an edge's process may be on average, so that nothing waits for it for long
CELL_GPUS = 16
LARGEST_CLUSTER = 256  # replicas that every edge knows: with more, simulating them takes hours


@dataclass(frozen=True)
class Prices:
    """Dollars an hour. Defaults: on-demand lists of May 2026 (H100 about 2.95, the median of 37 providers; H200 3.5 to
    4.5 at providers of GPUs alone) and of general cloud machines, about .05 for a virtual CPU; put in your own."""

    gpu_hour: float = 4.0
    core_hour: float = 0.05

    def per_million(self, plan: Plan, regions_per_s: float, copies: int = 1) -> float:
        """Of a million regions, GPUs and the edges' cores, at this rate."""
        if regions_per_s <= 0:
            return math.inf
        edge_cores = 0 if plan.one_machine else plan.edges * plan.edge_cores
        hourly = copies * (plan.gpus * self.gpu_hour + edge_cores * self.core_hour)
        return hourly / (regions_per_s * 3600) * 1e6


def capacities(plan: Plan, costs: Costs) -> dict[str, float]:
    """Regions per second at which each part would be full, fullest first. 0: it is full with nothing to do."""
    mean, machines = costs.mix.regions, plan.machines
    asking, answering = (max(0.0, 1 - share) for share in (plan.asking_share(costs), plan.answering_share(costs)))
    edge_bytes, gpu_bytes = plan.edge_gbit * 1e9 / 8, plan.gpu_gbit * 1e9 / 8
    found = {
        "device": plan.gpus * costs.device.regions_per_s,
        "edge's process": plan.edges * asking / costs.loop_s(plan.gpus),
        "image work": plan.edges * plan.edge_workers / costs.image_s if costs.image_s else math.inf,
        "replica's process": _rate(plan.gpus * answering, costs.replica, mean),
    }
    if not plan.one_machine:
        found |= {
            "edge's network, in": plan.edges * edge_bytes / (costs.request_bytes / mean),
            "edge's network, out": plan.edges * edge_bytes / costs.view_bytes,
            "GPU machine's network": machines * gpu_bytes / costs.view_bytes,
            "edge's object store": _rate(plan.edges, costs.sender, mean),
            "GPU machine's object store": _rate(machines, costs.receiver, mean),
        }
    return dict(sorted(found.items(), key=lambda each: each[1]))


def _rate(servers: float, calls: CallCosts, mean: float) -> float:
    seconds = calls.seconds(mean) / mean
    return servers / seconds if seconds else math.inf


def controller_cores(plan: Plan, costs: Costs) -> float:
    """Of Ray Serve's one controller; from 1 on it is full."""
    return costs.controller_s + plan.gpus * costs.controller_replica_s


def edges_for(gpus: int, costs: Costs, edge_cores: int) -> int:
    """Edges, so that devices are full before edges' processes, image work and object stores are EDGE_USE full. Raises
    ValueError where no number is enough: each asks all replicas, and all its time goes into that."""
    one = Plan(gpus, 1, edge_cores)
    parts = capacities(one, costs)
    names = ("edge's process", "image work", "edge's network, out", "edge's object store")
    least = min(parts[name] for name in names) * EDGE_USE
    if least <= 0:
        raise ValueError(f"an edge that asks {gpus} replicas every {one.ask_every_s:g} s has no time for anything else")
    return max(1, math.ceil(parts["device"] / least))


@dataclass(frozen=True)
class Way:
    """How a number of GPUs is built: `copies` of a plan that know nothing of each other, each behind its part of the
    load. why_not: set where it cannot be built."""

    name: str
    plan: Plan | None
    copies: int = 1
    why_not: str = ""

    @property
    def gpus(self) -> int:
        """Of all copies."""
        return 0 if self.plan is None else self.plan.gpus * self.copies


def one_edge(gpus: int, costs: Costs, edge_cores: int) -> Way:
    """What `dynrefer serve --engine ray` starts."""
    plan = Plan(gpus, 1, edge_cores)
    why = (
        "" if plan.asking_share(costs) < 1 else f"the edge has no time left beside asking {gpus} replicas how they are"
    )
    return Way("one edge", None if why else plan, why_not=why)


def one_cluster(gpus: int, costs: Costs, edge_cores: int) -> Way:
    """As many edges as the GPUs need, each of which knows all replicas."""
    if gpus > LARGEST_CLUSTER:
        return Way("one cluster", None, why_not=f"not simulated: more than {LARGEST_CLUSTER} replicas in one cluster")
    try:
        plan = Plan(gpus, edges_for(gpus, costs, edge_cores), edge_cores)
        why = (
            "" if plan.answering_share(costs) < 1 else f"a replica has no time left beside answering {plan.edges} edges"
        )
    except ValueError as error:
        return Way("one cluster", None, why_not=str(error))
    return Way("one cluster", None if why else plan, why_not=why)


def cells(gpus: int, costs: Costs, edge_cores: int) -> Way:
    """Clusters of CELL_GPUS, each with edges of its own, behind a load balancer that knows nothing of them."""
    size = min(gpus, CELL_GPUS)
    return Way("cells", Plan(size, edges_for(size, costs, edge_cores), edge_cores), math.ceil(gpus / size))


def alone(gpus: int, costs: Costs, edge_cores: int) -> Way:
    """A plain process per card, without Ray, with the cores that come with a card."""
    plan = Plan(1, 1, edge_cores, one_machine=True, policy="its own")
    return Way("a process per card", plan, gpus)


def without_ray(costs: Costs) -> Costs:
    """The same, where edge and device are one process."""
    return replace(costs, edge=CallCosts(), replica=CallCosts(), order_s=replace(costs.order_s, points=((1, 0.0),)))


@dataclass(frozen=True)
class Carried:
    """What a way carries: regions per second, with these latencies; the part that is full first, and how full each is.

    share: of what the device could do.
    """

    way: str
    gpus: int
    edges: int
    edge_cores: int
    copies: int
    regions_per_s: float
    share: float
    p50_ms: float
    p99_ms: float
    first: str
    used: dict[str, float]
    controller_cores: float
    dollars_per_million: float
    why_not: str = ""


def carried(way: Way, costs: Costs, p99_ms: float, prices: Prices, seed: int = 0) -> Carried:
    """The most load at which 99 of 100 requests are answered in time and next to none is refused, by bisection."""
    if way.plan is None:
        none = dict.fromkeys(("device",), 0.0)
        return Carried(way.name, way.gpus, 0, 0, 0, 0.0, 0.0, math.inf, math.inf, "", none, 0.0, math.inf, way.why_not)
    plan = way.plan
    if plan.one_machine:
        costs = without_ray(costs)
    first = next(iter(capacities(plan, costs)))
    one, best = _most(plan, costs, p99_ms, seed)
    rate = one * way.copies
    return Carried(
        way=way.name,
        gpus=way.gpus,
        edges=plan.edges * way.copies,
        edge_cores=plan.edge_cores,
        copies=way.copies,
        regions_per_s=round(rate, 1),
        share=round(rate / (way.copies * plan.gpus * costs.device.regions_per_s), 3),
        p50_ms=round(best.ms(50), 1),
        p99_ms=round(best.ms(99), 1),
        first=first,
        used={name: round(value, 3) for name, value in best.used.items()},
        controller_cores=0.0 if plan.one_machine else round(controller_cores(plan, costs), 3),
        dollars_per_million=round(prices.per_million(plan, rate, way.copies), 2),
    )


@lru_cache(maxsize=64)
def _most(plan: Plan, costs: Costs, p99_ms: float, seed: int) -> tuple[float, Outcome]:
    """Regions per second, and the simulation of them; see `carried`."""
    most = next(iter(capacities(plan, costs).values()))
    low, high, best = 0.0, 1.0, Outcome(0, Counter(), Counter(), [], 0.0, {})
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = run(plan, costs, middle * most, seed)
        if found.ms(99) <= p99_ms and found.refused <= MOST_REFUSED:
            low, best = middle, found
        else:
            high = middle
    return low * most, best


def run(plan: Plan, costs: Costs, regions_per_s: float, seed: int = 0) -> Outcome:
    """One simulation at a load, steady."""
    rate = regions_per_s / costs.mix.regions
    seconds = max(LEAST_S, LEAST_REQUESTS / rate)
    coming = arrivals(np.random.default_rng([seed, 0]), rate, costs.mix, seconds)
    return open_loop(plan, costs, coming, seconds, seconds * WARM, seed, drain=False)


@dataclass(frozen=True)
class Needed:
    """For so many regions per second. gbit: from edges to GPU machines."""

    regions_per_s: float
    gpus: int
    cells: int
    edges: int
    edge_cores: int
    gbit_in: float
    gbit_views: float
    dollars_an_hour: float
    dollars_per_million: float
    first: str


def needed(regions_per_s: float, costs: Costs, edge_cores: int, p99_ms: float, prices: Prices) -> Needed:
    """What carries so many, in cells, by what one cell was simulated to carry. Raises ValueError for none."""
    if not 0 < regions_per_s < math.inf:
        raise ValueError("--regions-per-second must be a positive number.")
    cell = carried(cells(CELL_GPUS, costs, edge_cores), costs, p99_ms, prices)
    if not cell.regions_per_s:
        raise ValueError(f"no load is answered within {p99_ms:g} ms; raise --p99-ms.")
    gpus = math.ceil(regions_per_s / (cell.regions_per_s / cell.gpus))
    edges = math.ceil(gpus * cell.edges / cell.gpus)
    hourly = gpus * prices.gpu_hour + edges * edge_cores * prices.core_hour
    return Needed(
        regions_per_s=regions_per_s,
        gpus=gpus,
        cells=math.ceil(gpus / CELL_GPUS),
        edges=edges,
        edge_cores=edges * edge_cores,
        gbit_in=round(regions_per_s / costs.mix.regions * costs.request_bytes * 8 / 1e9, 2),
        gbit_views=round(regions_per_s * costs.view_bytes * 8 / 1e9, 2),
        dollars_an_hour=round(hourly, 2),
        dollars_per_million=round(hourly / (regions_per_s * 3600) * 1e6, 2),
        first=cell.first,
    )


def as_row(found: Carried) -> dict[str, object]:
    """For the file of results: infinity is no JSON."""
    return {
        name: None if isinstance(value, float) and math.isinf(value) else value for name, value in asdict(found).items()
    }
