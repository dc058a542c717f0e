"""Replicas of this process, as an edge's executor takes them: what each does with a call is a function."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import ActorDiedError

from dynrefer.model import ModelCard
from dynrefer.model.errors import ModelError
from dynrefer.service.engine.executor import ExecutorCounts, Phase
from dynrefer.service.engine.reservations import RegionResult, WorkKind
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.ray import board as boards
from dynrefer.service.scale.ray.edges import Edges
from dynrefer.service.scale.ray.executor import ReplicaExecutor
from dynrefer.service.scale.ray.messages import Call, EdgeState, ReplicaModel, ReplicaState, Reply
from dynrefer.service.settings import Settings
from tests.fakes import CARD, context_of

WAIT_S = 20.0

# What a replica does with a call: its reply, or an exception.
Does = Callable[[Call, Any], Any]


def doubled(call: Call, items: list[Any]) -> Reply:
    return Reply([RegionResult(2 * item, None, 0.0, 1) for item in items])


def dies(call: Call, items: list[Any]) -> Reply:
    raise ActorDiedError


@dataclass
class Method:
    """`handle.METHOD` of Serve."""

    make: Callable[..., Any]

    def remote(self, *arguments: Any, **named: Any) -> "Answer":
        return Answer(self.make(*arguments, **named))


class Answer:
    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def cancel(self) -> None:
        pass

    def __await__(self) -> Any:
        return self._coroutine.__await__()


@dataclass
class Replicas:
    """`executor.Replicas`, and Serve's handle and router in one. does: replica -> what it does with a call."""

    name: str
    does: dict[str, Does]
    cap: int = 4
    waiting: int = 0
    of_another_edge: int = 0
    edges: Edges = field(default_factory=Edges)
    failure: ModelError | None = None
    alive: bool = True
    card: ModelCard = CARD
    version: str = ""
    there: str = ""  # the version that replicas are of
    models: dict[str, str] = field(default_factory=dict)  # by replica: the identity of its model
    phases: dict[str, Phase] = field(default_factory=dict)
    seen: list[tuple[str, Call, Any]] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    looking: threading.Event = field(default_factory=threading.Event)
    ended: bool = False

    def begin(self) -> "Replicas":
        if self.failure is not None:
            raise self.failure
        boards.board_of(self.name).update(self.does)
        return self

    def end(self) -> None:
        self.ended = True

    def hand_over(self, items: list[Any]) -> list[Any]:
        return items

    @property
    def model(self) -> Method:
        async def model(version: str) -> ReplicaModel | None:
            if version != self.there:
                return None
            return ReplicaModel(self.card, None, None, None, None, "the model")  # type: ignore[arg-type]

        return Method(model)

    @property
    def look_again(self) -> Method:
        async def look_again(*_: Any) -> None:
            self.looking.set()
            await asyncio.sleep(10 * WAIT_S)

        return Method(look_again)

    @property
    def state(self) -> Method:
        async def state(since: int, edge: EdgeState, to: str) -> ReplicaState:
            if to not in self.does:
                raise ActorDiedError
            self.asked[to] += 1
            if self.does[to] is hangs:
                await asyncio.sleep(WAIT_S)
            if to in self.faulty:
                raise RuntimeError("dictionary changed size during iteration")
            counts = ExecutorCounts(waiting=self.waiting, cap=self.cap, regions_per_s=10.0, caches={"views": (1, 2)})
            self.edges.heard(EdgeState("another", self.of_another_edge))
            of_others = self.edges.heard(edge)
            model = self.models.get(to, "the model")
            return ReplicaState(self.phases.get(to, Phase.READY), counts, of_other_edges=of_others, model=model)

        return Method(state)

    @property
    def run(self) -> Method:
        async def run(call: Call, items: Any) -> Any:
            board = boards.board_of(self.name)
            while (name := board.route(call.id, list(board.replicas))) is None:
                await asyncio.sleep(0.01)
            self.seen.append((name, call, items))
            found = self.does[name](call, items)
            return await found if asyncio.iscoroutine(found) else found

        return Method(run)


async def _forever() -> Reply:
    await asyncio.sleep(10 * WAIT_S)
    raise AssertionError


def never_ends(call: Call, items: list[Any]) -> Any:
    """The replica answers, and goes on with the call."""
    return _forever()


def hangs(call: Call, items: list[Any]) -> Any:
    """The replica answers nothing any more."""
    return _forever()


def started(replicas: Replicas, **settings: Any) -> ReplicaExecutor:
    executor = ReplicaExecutor(Settings(engine="ray", **settings), replicas, Metrics())
    executor.start(lambda: None)
    until(lambda: executor.phase is not Phase.LOADING)
    return executor


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def submitted(executor: ReplicaExecutor, items: list[int], **context: Any) -> list[Any]:
    """Their outputs, or what became of each instead."""
    with executor.reserve(len(items), context_of(**context)) as reservation:
        future: Future[list[RegionResult[Any]]] = reservation.submit(items, WorkKind.DESCRIBE)
        return [each.output if each.error is None else each.error for each in future.result(WAIT_S)]
