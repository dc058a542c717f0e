"""The service at any size: edges that prepare images, replicas that describe regions, and what lies between.

A request is received by one edge, its image is decoded and its views are cut by that edge's worker processes, its
regions are sent to a replica in parts of what a device takes at a time, and the answer goes back through the edge
(`service/scale/ray`). Each edge is one process with one interpreter, and workers on the other cores of its machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.kernel import Line, Servers, Shared, Simulation
from benchmarks.scaling.replicas import Replica
from benchmarks.scaling.routing import OURS, POLICIES, Knowledge

ASK_EVERY_S, ASK_EACH_S = 1.0, 0.02  # how often a replica is asked, at most, and by number of replicas: board.py
AGAIN_S = 0.05, 1.0  # before a call is made again, at first and at most: service/scale/ray/calls.py
QUEUE_REGIONS = 256  # of a replica: the default of max_queue_regions
MOST_DEATHS = 3  # of replicas under one call, as in service/scale/ray/calls.py


@dataclass(frozen=True)
class Plan:
    """What is built. gbit: of a machine's network card, each way. one_machine: edge and replicas share it: nothing goes
    through the network or from one object store to another. counts_others: whether what other edges have admitted
    counts against an edge's queue. shared_cores: everything computes on so many cores, as in
    a measurement on one small machine; None: edges, workers and replicas have cores of their own."""

    gpus: int
    edges: int
    edge_cores: int = 8
    gpus_per_machine: int = 8
    edge_gbit: float = 25.0
    gpu_gbit: float = 100.0
    latency_s: float = 0.0002
    one_machine: bool = False
    counts_others: bool = True
    policy: str = OURS
    timeout_s: float = 60.0
    ask_each_s: float = ASK_EACH_S
    shared_cores: float | None = None
    workers: int | None = None

    @property
    def edge_workers(self) -> int:
        """Worker processes of an edge: by default all cores but two, as the service does beside a GPU."""
        return self.workers if self.workers is not None else max(1, self.edge_cores - 2)

    @property
    def ask_every_s(self) -> float:
        """Between two questions of an edge to one replica."""
        return max(ASK_EVERY_S, self.gpus * self.ask_each_s)

    @property
    def machines(self) -> int:
        """Machines with GPUs."""
        return -(-self.gpus // self.gpus_per_machine)

    def asking_share(self, costs: Costs) -> float:
        """Of an edge's process, that goes into asking each replica how it is."""
        return self.gpus * costs.edge.question_s / self.ask_every_s

    def answering_share(self, costs: Costs) -> float:
        """Of a replica's process, that goes into answering."""
        return self.edges * costs.replica.question_s / self.ask_every_s


@dataclass(slots=True)
class Request:
    """parts_left: calls without an answer yet. done: called with it at its end."""

    edge: Edge
    regions: int
    image: int
    due: float
    deadline: float
    done: Callable[[Request, str], None]
    parts_left: int = 0


@dataclass(slots=True)
class Part:
    """One call for some regions of a request. left: of them, on the device or before it."""

    request: Request
    regions: int
    number: int
    left: int = 0
    replica: int = -1
    deaths: int = 0
    pause_s: float = AGAIN_S[0]


class Edge:
    """One process that talks HTTP, its workers and its machine's network card."""

    def __init__(self, clock: Simulation, index: int, plan: Plan, speed: float, host: Shared | None) -> None:
        self.index, self.speed = index, speed
        self.process = Servers(clock, 1, host)
        self.workers = Servers(clock, plan.edge_workers, host)
        bytes_per_s = plan.edge_gbit * 1e9 / 8
        self.inward, self.outward = Line(bytes_per_s), Line(bytes_per_s)
        self.raylet = Line(1.0)
        # Regions: of its own, as it last told the replicas, and what these said then of other edges.
        self.admitted = self.told = self.of_others = 0


@dataclass
class Fleet:
    """All of it, on a clock. what: how requests ended: answered, refused (429), late (504), failed (500)."""

    clock: Simulation
    plan: Plan
    costs: Costs
    rng: np.random.Generator
    what: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        plan, costs = self.plan, self.costs
        asking, answering = plan.asking_share(costs), plan.answering_share(costs)
        if max(asking, answering) >= 1:
            who = "an edge asks" if asking >= answering else "a replica is asked by"
            raise ValueError(f"{who} too many to do anything else: {plan.gpus} replicas, {plan.edges} edges.")
        self.host = None
        if plan.shared_cores is not None:
            cores = plan.shared_cores
            self.host = Shared(self.clock, lambda jobs: min(float(jobs), cores))
        self.known = Knowledge(plan.edges, plan.gpus)
        self.choose = POLICIES[plan.policy]()
        self.edges = [Edge(self.clock, e, plan, 1 - asking, self.host) for e in range(plan.edges)]
        self.replicas = [
            Replica(self.clock, r, r // plan.gpus_per_machine, costs.device, self.host) for r in range(plan.gpus)
        ]
        gpu_bytes_per_s = plan.gpu_gbit * 1e9 / 8
        self.inward = [Line(gpu_bytes_per_s) for _ in range(plan.machines)]
        self.raylets = [Line(1.0) for _ in range(plan.machines)]
        self._answering = 1 - answering
        self._order_s = costs.order_s(plan.gpus)
        self._numbers = 0
        for edge in self.edges:
            self.clock.at(float(self.rng.random()) * plan.ask_every_s, self._ask, edge)

    def submit(self, edge: int, image: int, regions: int, done: Callable[[Request, str], None]) -> None:
        """A request comes to an edge now. image: its place in the mix's sizes."""
        at, now = self.edges[edge], self.clock.now
        request = Request(at, regions, image, now, now + self.plan.timeout_s, done)
        of_others = at.of_others if self.plan.counts_others else 0
        if at.admitted + regions > QUEUE_REGIONS * self.plan.gpus - of_others:
            self._end(request, "refused")
            return
        at.admitted += regions
        if self.plan.one_machine:
            self._received(request)
        else:
            self.clock.at(at.inward.send(self.costs.images[image].bytes, now), self._received, request)

    def kill(self, replica: int, noticed_s: float, restart_s: float) -> None:
        """A replica's process ends now: its calls fail as soon as that is noticed, and another one takes its place."""
        lost = self.replicas[replica].die()
        self.clock.at(self.clock.now + noticed_s, self._noticed, lost)
        self.clock.at(self.clock.now + noticed_s + restart_s, self._restarted, replica)

    def _noticed(self, lost: list[Part]) -> None:
        for part in lost:
            self._lost(part)

    def _restarted(self, replica: int) -> None:
        self.replicas[replica].alive = True
        self.known.up[replica] = True

    def _lost(self, part: Part) -> None:
        """Its replica ended while the part was there, or on its way. Serve's router sends nothing more there then."""
        self.known.up[part.replica] &= self.replicas[part.replica].alive
        self.known.end(part.request.edge.index, part.replica, part.regions)
        part.deaths += 1
        self.again["died"] += 1
        if part.deaths >= MOST_DEATHS:
            self._part_done(part, "failed")
        else:
            self._send_again(part)

    def _ask(self, edge: Edge) -> None:
        self.known.ask(edge.index)
        edge.told = edge.admitted
        edge.of_others = sum(each.told for each in self.edges) - edge.told
        self.clock.at(self.clock.now + self.plan.ask_every_s, self._ask, edge)

    def _received(self, request: Request) -> None:
        request.edge.process.add(self.costs.request_s / request.edge.speed, self._checked, request)

    def _checked(self, request: Request) -> None:
        work_s = self.costs.images[request.image].seconds(request.regions)
        request.edge.workers.add(work_s, self._prepared, request)

    def _prepared(self, request: Request) -> None:
        if self._is_late(request):
            return
        most = self.costs.device.most
        sizes = [min(most, request.regions - first) for first in range(0, request.regions, most)]
        request.parts_left = len(sizes)
        for size in sizes:
            self._numbers += 1
            self._send(Part(request, size, self._numbers))

    def _send(self, part: Part) -> None:
        if self.clock.now > part.request.deadline:
            self._part_done(part, "late")
            return
        edge = part.request.edge
        work_s = (self.costs.edge.seconds(part.regions) + self._order_s) / edge.speed
        edge.process.add(work_s, self._sent, part)

    def _send_again(self, part: Part) -> None:
        self.clock.at(self.clock.now + part.pause_s, self._send, part)
        part.pause_s = min(2 * part.pause_s, AGAIN_S[1])

    def _sent(self, part: Part) -> None:
        """The edge has made the call: a replica is chosen, and the views go there."""
        edge, now = part.request.edge, self.clock.now
        if not self.known.up.any():
            self._send_again(part)
            return
        part.replica = self.choose(self.known, edge.index, self.rng)
        part.left = part.regions
        self.known.begin(edge.index, part.replica, part.regions)
        if self.plan.one_machine:
            self._arrived(part)
            return
        machine = self.replicas[part.replica].node
        size = part.regions * self.costs.view_bytes
        time = edge.raylet.send(self.costs.sender.seconds(part.regions), now)
        time = edge.outward.send(size, time) + self.plan.latency_s
        time = self.inward[machine].send(size, time)
        time = self.raylets[machine].send(self.costs.receiver.seconds(part.regions), time)
        self.clock.at(time, self._arrived, part)

    def _arrived(self, part: Part) -> None:
        replica = self.replicas[part.replica]
        if not replica.alive:
            self._lost(part)
        elif self.known.regions[part.replica] > QUEUE_REGIONS + self.costs.device.most:
            self.known.end(part.request.edge.index, part.replica, part.regions)
            self.again["refused"] += 1
            self._send_again(part)
        else:
            replica.calls[part.number] = part
            work_s = self.costs.replica.seconds(part.regions) / self._answering
            replica.process.add(work_s, self._received_there, part)

    def _received_there(self, part: Part) -> None:
        self.replicas[part.replica].device.add(part.regions, 1.0, self._described, part)

    def _described(self, part: Part, regions: int) -> None:
        part.left -= regions
        if part.left:
            return
        del self.replicas[part.replica].calls[part.number]
        self.known.end(part.request.edge.index, part.replica, part.regions)
        if self.plan.one_machine:
            self._part_done(part, "")
        else:
            self.clock.at(self.clock.now + self.plan.latency_s, self._part_done, part, "")

    def _part_done(self, part: Part, fault: str) -> None:
        """fault: how its whole request ends; empty where all is well."""
        request = part.request
        if fault:
            if request.parts_left > 0:
                request.parts_left = 0
                self._finish(request, fault)
            return
        request.parts_left -= 1
        if request.parts_left == 0:
            work_s = request.regions * self.costs.answered_region_s / request.edge.speed
            request.edge.process.add(work_s, self._answered, request)

    def _answered(self, request: Request) -> None:
        if not self._is_late(request):
            self._finish(request, "answered")

    def _is_late(self, request: Request) -> bool:
        late = self.clock.now > request.deadline
        if late:
            self._finish(request, "late")
        return late

    def _finish(self, request: Request, how: str) -> None:
        request.edge.admitted -= request.regions
        self._end(request, how)

    def _end(self, request: Request, how: str) -> None:
        self.what[how] += 1
        request.done(request, how)


def utilisation(fleet: Fleet, seconds: float) -> dict[str, float]:
    """Of each part, over so many seconds: the mean over its instances of what it did, of what it could do."""
    plan, edges = fleet.plan, fleet.edges
    network = 0 if plan.one_machine else 1
    edge_bytes, gpu_bytes = plan.edge_gbit * 1e9 / 8, plan.gpu_gbit * 1e9 / 8
    of = {
        "device": np.mean([each.device.done for each in fleet.replicas]) / fleet.costs.device.regions_per_s,
        "replica's process": np.mean([each.process.done_s for each in fleet.replicas]),
        "edge's process": np.mean([each.process.done_s for each in edges]),
        "image work": np.mean([each.workers.done_s / each.workers.number for each in edges]),
        "edge's network, in": network * np.mean([each.inward.passed for each in edges]) / edge_bytes,
        "edge's network, out": network * np.mean([each.outward.passed for each in edges]) / edge_bytes,
        "edge's object store": network * np.mean([each.raylet.passed for each in edges]),
        "GPU machine's network": network * np.mean([each.passed for each in fleet.inward]) / gpu_bytes,
        "GPU machine's object store": network * np.mean([each.passed for each in fleet.raylets]),
    }
    return {name: float(value) / seconds for name, value in of.items()}


@dataclass
class Outcome:
    """arrived: requests. what: how they ended. latencies_s: of those answered that were due after the warm-up.
    regions_per_s: answered after it. used: see `utilisation`, of the whole run."""

    arrived: int
    what: Counter[str]
    again: Counter[str]
    latencies_s: list[float]
    regions_per_s: float
    used: dict[str, float]

    def ms(self, percent: float) -> float:
        """A percentile of the latencies, in milliseconds; infinity without any."""
        return float(np.percentile(self.latencies_s, percent)) * 1e3 if self.latencies_s else float("inf")

    @property
    def refused(self) -> float:
        """The share of requests that ended otherwise than answered."""
        return sum(self.what[how] for how in ("refused", "late", "failed")) / max(1, self.arrived)


@dataclass
class _Seen:
    """What comes of the requests. warm_s: what ends earlier does not count."""

    warm_s: float
    latencies_s: list[float] = field(default_factory=list)
    regions: int = 0


def open_loop(
    plan: Plan,
    costs: Costs,
    coming: Iterator[tuple[float, int, int]],
    seconds: float,
    warm_s: float,
    seed: int = 0,
    prepare: Callable[[Fleet], None] = lambda fleet: None,
    drain: bool = True,
) -> Outcome:
    """Requests (time, size, regions) that come whatever happens, each to an edge at random.

    prepare: called with the fleet first, to let something happen to it. drain: whether everything that came is waited
    for.
    """
    clock = Simulation()
    fleet = Fleet(clock, plan, costs, np.random.default_rng([seed, 1]), Counter(), Counter())
    seen, arrived = _Seen(warm_s), 0

    def done(request: Request, how: str) -> None:
        if how == "answered" and clock.now >= warm_s and clock.now < seconds:
            seen.regions += request.regions
        if how == "answered" and request.due >= warm_s:
            seen.latencies_s.append(clock.now - request.due)

    def arrive(image: int, regions: int) -> None:
        nonlocal arrived
        arrived += 1
        fleet.submit(int(fleet.rng.random() * plan.edges), image, regions, done)
        plan_next()

    def plan_next() -> None:
        if (following := next(coming, None)) is not None:
            clock.at(following[0], arrive, following[1], following[2])

    prepare(fleet)
    plan_next()
    clock.run(seconds)
    used = utilisation(fleet, seconds)
    if drain:
        # The edges ask for ever, so what is left is waited for by its number.
        while sum(fleet.what.values()) < arrived:
            clock.run(clock.now + 1.0)
    return Outcome(arrived, fleet.what, fleet.again, seen.latencies_s, seen.regions / (seconds - warm_s), used)


def closed_loop(
    plan: Plan,
    costs: Costs,
    clients: int,
    regions: int,
    seconds: float,
    warm_s: float,
    client_s: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Clients, each with one request of so many regions after another, of the mix's first size. client_s: seconds of a
    core that a client takes per request, on the machine of the service where its cores are shared."""
    clock = Simulation()
    fleet = Fleet(clock, plan, costs, np.random.default_rng([seed, 1]), Counter(), Counter())
    generator = Servers(clock, 1, fleet.host)
    seen, arrived = _Seen(warm_s), 0

    def done(request: Request, how: str) -> None:
        if how == "answered" and warm_s <= clock.now < seconds:
            seen.regions += request.regions
            seen.latencies_s.append(clock.now - request.due)
        ask(request.edge.index)

    def ask(edge: int) -> None:
        if client_s:
            generator.add(client_s, submit, edge)
        else:
            clock.at(clock.now, submit, edge)

    def submit(edge: int) -> None:
        nonlocal arrived
        arrived += 1
        fleet.submit(edge, 0, regions, done)

    for client in range(clients):
        ask(client % plan.edges)
    clock.run(seconds)
    used = utilisation(fleet, seconds)
    return Outcome(arrived, fleet.what, fleet.again, seen.latencies_s, seen.regions / (seconds - warm_s), used)
