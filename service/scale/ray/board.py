"""What an edge knows of the replicas of its application: what it has sent where, and when each of them last answered.

`routing.py` decides by it where a call goes, `calls.py` which calls are made again.
"""

import random
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from dynrefer.service.engine.executor import Phase
from dynrefer.service.scale.ray.messages import ReplicaState
from dynrefer.service.scale.ray.totals import Totals

# Each replica is asked so often how it is; with many, so much less often that asking takes no more than a part of the
# edge's time: a question costs it 2.5 ms (benchmarks/results/scaling_costs.json).
ASK_EVERY_S, ASK_EACH_S = 1.0, 0.02
# A replica that has not answered for so long, and was asked so often, gets nothing new; its calls are made elsewhere.
SILENT_S, SILENT_QUESTIONS = 5.0, 5
USUAL_BATCH_REGIONS = 16  # where the replicas have not said yet how many they take
MOST_IMAGES = 1_000  # whose replica is remembered
TO = "to"  # keyword of a call that one replica is meant by


@dataclass(slots=True)
class Seen:
    """A replica, as this edge sees it. answered_at: on the monotonic clock. state: what it said then. batch: number of
    the last batch that was counted. out_of_memory: batches that were counted. faulty: it once raised instead."""

    answered_at: float
    state: ReplicaState | None = None
    batch: int = 0
    out_of_memory: int = 0
    faulty: bool = False


@dataclass(slots=True)
class Sent:
    """A call that is under way. replica: None until it was routed. avoid: replicas that did not take it before, or were
    lost with it. image: what a question is about, of which its replica keeps what is dear to compute; None of other
    work."""

    regions: int
    replica: str | None = None
    avoid: Collection[str] = ()
    image: bytes | None = None


@dataclass
class Board:
    """What an edge knows of the replicas of one application. Its threads assign whole values; the lock is for the few
    that have to fit each other.

    model: identity of the model that the edge prepares regions for, once it knows. While Serve replaces replicas by
    others with another model, both are there, and this edge has no use for the others.
    """

    replicas: dict[str, Seen] = field(default_factory=dict)
    calls: dict[str, Sent] = field(default_factory=dict)
    model: str | None = None
    _asked: OrderedDict[bytes, str] = field(default_factory=OrderedDict)  # image -> where its last call went
    _gone: Totals = field(default_factory=Totals)  # of replicas that are not listed any more
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def update(self, names: Iterable[str]) -> None:
        """There are these replicas now. A new one counts as having answered."""
        now = time.monotonic()
        replicas = {name: self.replicas.get(name) or Seen(now) for name in names}
        with self._lock:
            for name, seen in self.replicas.items():
                if name not in replicas and seen.state is not None:
                    self._gone += Totals.of(seen.state.counts)
            self.replicas = replicas

    def answered(self, name: str, state: ReplicaState) -> None:
        """A replica has said how it is."""
        if (seen := self.replicas.get(name)) is not None:
            seen.state, seen.answered_at = state, time.monotonic()

    @property
    def ask_every_s(self) -> float:
        """How often each replica is asked how it is."""
        return max(ASK_EVERY_S, len(self.replicas) * ASK_EACH_S)

    def is_silent(self, name: str) -> bool:
        """Whether nothing was heard of a replica for too long.

        One that is not listed any more is not asked any more. It is to end and finishes its calls first, or it has
        died, and then its calls fail by themselves.
        """
        seen = self.replicas.get(name)
        longest = max(SILENT_S, SILENT_QUESTIONS * self.ask_every_s)
        return seen is not None and time.monotonic() - seen.answered_at > longest

    @property
    def of_other_edges(self) -> int:
        """Regions that other edges have admitted, as the replicas said last: each knows of all edges."""
        return max((each.of_other_edges for each in self.states), default=0)

    @property
    def answering(self) -> list[Seen]:
        """The replicas that are not silent, and may have the edge's model."""
        return [seen for name, seen in list(self.replicas.items()) if not self.is_silent(name) and self._fits(seen)]

    @property
    def states(self) -> list[ReplicaState]:
        """What those that are not silent said last; those are left out that have said nothing yet."""
        return [seen.state for seen in self.answering if seen.state is not None]

    @property
    def by_state(self) -> dict[str, int]:
        """How many replicas answer and how many are silent."""
        answering = sum(not self.is_silent(name) for name in list(self.replicas))
        return {"answering": answering, "silent": len(self.replicas) - answering}

    @property
    def totals(self) -> Totals:
        """What all replicas have counted, as they said last, those that are silent or gone included."""
        with self._lock:
            states = [seen.state for seen in self.replicas.values() if seen.state is not None]
            return sum((Totals.of(each.counts) for each in states), self._gone)

    @property
    def superseded(self) -> bool:
        """Whether there are replicas, and all have another model than the edge."""
        seen = list(self.replicas.values())
        return bool(seen) and not any(self._fits(each) for each in seen)

    @property
    def at_work(self) -> bool:
        """Whether a replica has a call of this edge, which it may finish even if it is to end."""
        return any(sent.replica is not None for sent in list(self.calls.values()))

    @property
    def batch_regions(self) -> int:
        """What the smallest replica takes at a time."""
        return max(1, min((each.counts.cap for each in self.states), default=USUAL_BATCH_REGIONS))

    def route(self, call: str, names: Iterable[str]) -> str | None:
        """The replica of these that a call goes to, which is noted; None where none answers. call: its id, or of a call
        that any replica takes any."""
        sent = self.calls.get(call) or Sent(0)
        prefer = None if sent.image is None else self._asked.get(sent.image)
        order = self.order([name for name in names if name in self.replicas], sent.avoid, prefer)
        if not order:
            return None
        sent.replica = order[0]
        if sent.image is not None:
            self._note(sent.image, order[0])
        return order[0]

    def _note(self, image: bytes, replica: str) -> None:
        """Where an image's calls go from now on. Forgotten are those about which nothing was asked for longest."""
        with self._lock:
            self._asked[image] = replica
            self._asked.move_to_end(image)
            while len(self._asked) > MOST_IMAGES:
                self._asked.popitem(last=False)

    def order(self, names: Sequence[str], avoid: Collection[str] = (), prefer: str | None = None) -> list[str]:
        """Those that answer, the one first to which this edge has sent the fewest regions that it has not got back.

        Before that count: those to avoid come last, and those that are not ready behind those that are. They refuse at
        once, have therefore always the fewest regions, and would attract every call. prefer: comes before others like
        it unless it has more than a batch beyond them; waiting for one batch takes about as long as computing again
        what it has kept.

        How many regions replicas say they have is left out: it is old by the time it is read, all edges would run to
        the same replica, and the tail is longer than with a choice at random (`python -m benchmarks.scaling`).
        """
        here: Counter[str] = Counter()
        for sent in list(self.calls.values()):
            if sent.replica is not None:
                here[sent.replica] += sent.regions
        answering = [name for name in names if not self.is_silent(name) and self._fits(self.replicas.get(name))]
        random.shuffle(answering)  # or edges that have sent nothing would all begin with the same
        if prefer is not None:
            here[prefer] -= self.batch_regions
        return sorted(answering, key=lambda name: (name in avoid, self._readiness(name), here[name], name != prefer))

    def _fits(self, seen: Seen | None) -> bool:
        """Whether it has the edge's model, or may have it."""
        return self.model is None or seen is None or seen.state is None or seen.state.model == self.model

    def _readiness(self, name: str) -> int:
        """The lower, the sooner it gets something: one that is new has to say how it is first."""
        seen = self.replicas.get(name)
        if seen is None or seen.state is None:
            return 1
        return 0 if seen.state.phase is Phase.READY else 2


# By the application's name: Serve makes its routers itself, in the process that holds the handle.
_boards: dict[str, Board] = {}


def board_of(application: str) -> Board:
    """The one of this process."""
    return _boards.setdefault(application, Board())


def forget(application: str) -> None:
    """Once it has ended."""
    _boards.pop(application, None)
