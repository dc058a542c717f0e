"""Which replica a call goes to, by what an edge knows: less than the truth, and later.

An edge knows what it has sent itself, at once; of all else it knows what a replica said when it was last asked (this
service) or last answered (Ray's own router).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


class Knowledge:
    """The truth, and what each of E edges knows of each of R replicas.

    regions, calls: (R,) that are there, really. sent: (E, R) regions of the edge that are there. said: (E, R) regions
    that were there when the edge last asked. cached: (E, R) calls, as Ray's router has them: the replica's number when
    it last accepted one of the edge's calls, less those that have ended since. up: (R,) whether calls go there.
    """

    def __init__(self, edges: int, replicas: int) -> None:
        self.regions: Counts = np.zeros(replicas, dtype=np.int64)
        self.calls: Counts = np.zeros(replicas, dtype=np.int64)
        self.sent: Counts = np.zeros((edges, replicas), dtype=np.int64)
        self.said: Counts = np.zeros((edges, replicas), dtype=np.int64)
        self.cached: Counts = np.zeros((edges, replicas), dtype=np.int64)
        self.up = np.ones(replicas, dtype=bool)

    def ask(self, edge: int) -> None:
        """The edge asks every replica how it is."""
        self.said[edge] = self.regions

    def begin(self, edge: int, replica: int, regions: int) -> None:
        """The edge sends a call."""
        self.sent[edge, replica] += regions
        self.regions[replica] += regions
        self.calls[replica] += 1
        self.cached[edge, replica] = self.calls[replica]

    def end(self, edge: int, replica: int, regions: int) -> None:
        """The call has its answer, or will have none."""
        self.sent[edge, replica] -= regions
        self.regions[replica] -= regions
        self.calls[replica] -= 1
        self.cached[edge, replica] = max(0, self.cached[edge, replica] - 1)


# (knowledge, edge, random numbers) -> place of the replica.
Policy = Callable[[Knowledge, int, np.random.Generator], int]


def at_random(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """Any that is up."""
    while True:
        replica = int(rng.random() * len(known.up))
        if known.up[replica]:
            return replica


def _two(known: Knowledge, edge: int, rng: np.random.Generator, load: Callable[[int], int]) -> int:
    one, other = at_random(known, edge, rng), at_random(known, edge, rng)
    return one if load(one) <= load(other) else other


def two_choices(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """Of two at random, the one with fewer regions, by what the edge has sent or the replica has said."""
    sent, said = known.sent[edge], known.said[edge]
    return _two(known, edge, rng, lambda replica: max(sent[replica], said[replica]))


def two_choices_by_calls(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """Ray's own way: of two at random, the one with fewer calls in the cache."""
    cached = known.cached[edge]
    return _two(known, edge, rng, lambda replica: int(cached[replica]))


def two_choices_at_once(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """The same with the truth: as if nothing took time."""
    return _two(known, edge, rng, lambda replica: int(known.regions[replica]))


def least_of_its_own(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """This service's way (`service/scale/ray/board.py`): of all, one with the fewest regions that the edge itself has
    sent, whatever others do; of equals any."""
    load = known.sent[edge] + rng.random(len(known.up))
    load[~known.up] = np.inf
    return int(load.argmin())


def least_regions(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """Of all, the first with the fewest regions, by what the edge has sent or the replica has said, whichever is more:
    every edge the same first one."""
    load = np.maximum(known.sent[edge], known.said[edge])
    load[~known.up] = np.iinfo(np.int64).max
    return int(load.argmin())


def its_own(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """No router at all: edge and replica are one process, which lives and dies as one."""
    return edge


def fewest_really(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
    """What no edge can know: the one with the fewest regions at this moment."""
    load = known.regions.copy()
    load[~known.up] = np.iinfo(np.int64).max
    return int(load.argmin())


def in_turn() -> Policy:
    """Each edge takes one after the other, from a place of its own."""
    places: dict[int, int] = {}

    def choose(known: Knowledge, edge: int, rng: np.random.Generator) -> int:
        place = places.get(edge, int(rng.random() * len(known.up)))
        for _ in range(len(known.up)):
            place = (place + 1) % len(known.up)
            if known.up[place]:
                break
        places[edge] = place
        return place

    return choose


OURS = "least of what it sent (this service)"
# By the names in results and tables.
POLICIES: dict[str, Callable[[], Policy]] = {
    "random": lambda: at_random,
    "in turn": in_turn,
    "two choices by calls (Ray's own)": lambda: two_choices_by_calls,
    "two choices by regions": lambda: two_choices,
    OURS: lambda: least_of_its_own,
    "least of sent or said": lambda: least_regions,
    "two choices, if it were known": lambda: two_choices_at_once,
    "fewest, if it were known": lambda: fewest_really,
    "its own": lambda: its_own,
}
ROUTERS = tuple(name for name in POLICIES if name not in ("its own", "two choices, if it were known"))
