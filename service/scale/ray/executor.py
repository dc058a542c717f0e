"""The executor of an edge: replicas in other processes and on other machines run what it prepares.

It admits requests as the batcher of one process does, with the queues of all replicas for its bound, and sends what is
submitted, in parts of a batch's size, to the replicas that have least to do. A loop of its own makes the calls and asks
every replica, once a second, how it is.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, cast

from dynrefer.model import ConverseTurn, Predictor
from dynrefer.model.errors import ModelError, StoppedError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.admission import Admission
from dynrefer.service.engine.executor import ExecutorCounts, Phase
from dynrefer.service.engine.reservations import (
    ExecutorClosed,
    Kind,
    Part,
    QueuedRequest,
    RegionResult,
    Reservation,
    WorkKind,
)
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.ray.board import ASK_EVERY_S, SILENT_S, board_of, forget
from dynrefer.service.scale.ray.calls import Calls, first_answer
from dynrefer.service.scale.ray.messages import Call, ReplicaModel
from dynrefer.service.scale.ray.predictor import ReplicaPredictor
from dynrefer.service.scale.ray.rounds import Rounds
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

START_WITHIN_S = (60.0,)  # for the first answer of a replica, again and again: nobody waits yet
CLUSTER_LOST = "the cluster is lost"
SUPERSEDED = "all replicas have another model than the one that they began with"


class Replicas(Protocol):
    """An application of Serve. name: of the application, which its board goes by.

    version: of what it was made of, which its replicas know too. While Serve replaces an application by another version
    of it, replicas of both are there: an edge takes its model from those of its own.
    """

    name: str
    version: str

    def begin(self) -> Any:
        """Start it, for as long as it takes, and return its handle; called once, in a thread. Raises ModelError."""

    def end(self) -> None:
        """End its replicas; called once, in a thread."""

    def hand_over(self, items: list[Any]) -> Any:
        """Put items where every replica can read them. Returns what a call takes along."""

    @property
    def alive(self) -> bool:
        """Whether the cluster is."""


class ReplicaExecutor:
    """An `Executor`. replicas: run what it is given."""

    def __init__(self, settings: Settings, replicas: Replicas, metrics: Metrics) -> None:
        self._settings = settings
        self._replicas = replicas
        self._metrics = metrics
        self._board = board_of(replicas.name)
        self._admission = Admission(settings.key_regions, self._seconds_for)
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[QueuedRequest[Any, Any], set[asyncio.Task[None]]] = {}
        self._turns: dict[QueuedRequest[Any, Any], tuple[ConverseTurn, Any]] = {}  # with what was handed over
        self._thread = threading.Thread(target=self._live, name="replicas", daemon=True)
        self._closed = self._ended = False
        self._superseded_at: float | None = None  # on the monotonic clock
        self._handle: Any = None
        self._calls: Calls | None = None
        self._rounds: Rounds | None = None
        self._on_loss: Callable[[], None] = lambda: None
        self.predictor: Predictor[Any, Any] | None = None
        self.loaded_at = 0.0
        self.failure: ModelError | None = None
        self.lost = False

    @property
    def phase(self) -> Phase:
        """See `Executor`. READY while one replica is."""
        if self.lost or self._ended:
            return Phase.LOST
        if self.predictor is None:
            return Phase.LOADING
        phases = [each.phase for each in self._board.states]
        if Phase.READY in phases:
            return Phase.READY
        return Phase.STARVED if Phase.STARVED in phases else Phase.STUCK

    @property
    def counts(self) -> ExecutorCounts:
        """See `Executor`. Of all replicas together, those of other edges included; waiting: of this edge."""
        states, totals = [each.counts for each in self._board.states], self._board.totals
        running = sum(each.running for each in states)
        card = None if self.predictor is None else self.predictor.card
        return ExecutorCounts(
            waiting=max(0, self._admission.waiting - running),
            running=running,
            cap=sum(each.cap for each in states),
            caches=totals.caches,
            graphs=totals.graphs,
            model=None if card is None else (card.name, card.revision),
            regions_per_s=sum(each.regions_per_s for each in states),
            replicas=self._board.by_state,
            shared_cache=replace(  # in use while one of them is
                totals.shared_cache,
                reading=any(each.shared_cache.reading for each in states),
                writing=any(each.shared_cache.writing for each in states),
            ),
        )

    def start(self, on_loss: Callable[[], None]) -> None:
        """See `Executor`."""
        self._on_loss = on_loss
        self._thread.start()

    def close(self) -> None:
        """See `Executor`."""
        self._closed = True

    def wait_for_idle_cores(self) -> None:
        """See `Executor`: replicas have cores of their own."""

    def reserve(self, regions: int, context: RequestContext) -> Reservation[Any, Any]:
        """See `Executor`."""
        with self._lock:
            if self._closed or self.phase is not Phase.READY:
                raise ExecutorClosed
            most = self._settings.max_queue_regions * max(1, len(self._board.answering))
            self._admission.key_items = self._key_share(most)
            self._admission.admit(regions, context.caller, most - self._board.of_other_edges, self._admission.keys)
            request: QueuedRequest[Any, Any] = QueuedRequest(regions, context.caller, context.deadline, context.id)
            self._tasks[request] = set()
            return Reservation(self, request)

    def _key_share(self, most: int) -> int:
        """Of all replicas' queues together, as `Settings.key_regions` is of one."""
        if self._settings.max_key_regions or not self._settings.key_regions:
            return self._settings.key_regions
        return max(self._settings.max_regions, most // 2)

    def enqueue(
        self, request: QueuedRequest[Any, Any], items: Sequence[Any], kind: Kind
    ) -> Future[list[RegionResult[Any]]]:
        """See `Reservation.submit`."""
        assert isinstance(kind, WorkKind), f"replicas do not know the work {kind!r}"
        with self._lock:
            if self.lost or self._ended:
                raise ExecutorClosed
            if len(items) > request.unused:
                raise ValueError(f"{len(items)} regions were submitted where {request.unused} were reserved")
            part: Part[Any, Any] = Part(request, kind, len(items), time.monotonic())
            request.parts.append(part)
            request.unused -= len(items)
        size = 1 if kind is WorkKind.CONVERSE else self._board.batch_regions  # large requests are shared
        for first in range(0, len(items), size):
            self._soon(self._begin, part, first, list(items[first : first + size]))
        return part.future

    def renew(self, request: QueuedRequest[Any, Any], items: int) -> None:
        """See `Reservation.renew`."""
        with self._lock:
            if self.lost or self._ended:
                raise ExecutorClosed
            request.unused += items
            self._admission.add(request.key, items)

    def give_back(self, request: QueuedRequest[Any, Any], keep: int = 0) -> None:
        """See `Reservation.give_back` and `Reservation.keep`."""
        with self._lock:
            returned = max(0, request.unused - keep)
            request.unused -= returned
            self._admission.release(request.key, returned)

    def cancel(self, request: QueuedRequest[Any, Any]) -> None:
        """See `WorkQueue`."""
        self.give_back(request)
        with self._lock:
            request.leave()
        self._soon(self._let_go, request)

    def _soon(self, do: Callable[..., None], *arguments: Any) -> None:
        """Do it on the loop; not at all once that has ended, where everything that waited was failed."""
        with self._lock:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(do, *arguments)

    def _let_go(self, request: QueuedRequest[Any, Any]) -> None:
        self._turns.pop(request, None)
        for task in self._tasks.pop(request, ()):
            task.cancel()

    def _begin(self, part: Part[Any, Any], first: int, items: list[Any]) -> None:
        if part.request not in self._tasks:  # it was let go of meanwhile
            self._release(part.request, len(items))
            return
        task = self._loop.create_task(self._run(part, first, items))
        self._tasks[part.request].add(task)
        task.add_done_callback(self._tasks[part.request].discard)
        # Not at the end of `_run`: a task that is cancelled before its first step never comes there.
        task.add_done_callback(lambda _: self._release(part.request, len(items)))

    async def _run(self, part: Part[Any, Any], first: int, items: list[Any]) -> None:
        """Some of a part's items, from place `first` on. Whatever happens, the part's future resolves."""
        request, predictor = part.request, self.predictor
        assert self._calls is not None and isinstance(predictor, ReplicaPredictor), "work before there was a replica"
        assert isinstance(part.kind, WorkKind)
        call = Call("", len(items), part.kind, predictor.identity, request.id, request.key, None)
        try:
            if part.kind is WorkKind.CONVERSE:
                (turn,) = items
                call = replace(call, image=turn.digest, written=turn.written)
                handed_over = self._handed_over(request, turn)
            else:
                handed_over = self._replicas.hand_over(items)
            reply = await self._calls.answered(call, handed_over, request.deadline)
            assert reply.results is not None
            for place, result in enumerate(reply.results):
                self._record(part, first + place, result)
        except asyncio.CancelledError:
            self._fail(request, StoppedError("the request was cancelled."))
            raise
        except ModelError as error:  # of these items alone
            for place in range(len(items)):
                self._record(part, first + place, RegionResult(None, error, 0.0, 0))
        except Exception as error:
            self._fail(request, error)

    def _handed_over(self, request: QueuedRequest[Any, Any], turn: ConverseTurn) -> Any:
        """A turn, once for all of its pieces, until the request is let go of."""
        first, reference = self._turns.get(request, (None, None))
        if first is None or not turn.continues(first):
            reference = self._replicas.hand_over([turn])
            self._turns[request] = turn, reference
        return reference

    def _record(self, part: Part[Any, Any], place: int, result: RegionResult[Any]) -> None:
        with self._lock:  # the server's loop may cancel the request at the same moment
            part.record(place, result)

    def _fail(self, request: QueuedRequest[Any, Any], error: Exception) -> None:
        with self._lock:
            request.fail(error)

    def _release(self, request: QueuedRequest[Any, Any], items: int) -> None:
        with self._lock:
            self._admission.release(request.key, items)

    def _seconds_for(self, regions: int) -> float:
        rate = self.counts.regions_per_s
        return regions / rate if rate else 1.0

    def _live(self) -> None:
        """The thread's whole life."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except ModelError as error:
            self.failure = error
        except Exception:
            logger.exception("the replicas are given up")
        finally:
            with self._lock:  # what is submitted before this is failed below, and nothing is submitted after it
                self.lost = not self._ended
            self._fail_all()
            if self.lost:
                self._on_loss()
            self._loop.run_until_complete(self._run_out())
            with self._lock:
                self._loop.close()

    async def _run_out(self) -> None:
        """End what is under way on the loop: threads wait for it."""
        left = asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    async def _serve(self) -> None:
        """Until it is closed and all is run, or until the replicas are lost."""
        self._handle = await asyncio.to_thread(self._replicas.begin)
        self._calls = Calls(self._handle.run.remote, self._board, self._metrics.count_call_again)
        ask, waiting = self._handle.state.remote, lambda: self._admission.waiting
        self._rounds = Rounds(ask, self._board, self._metrics, waiting)
        loss = await self._learn_model() or await self._look_after()
        if loss is not None:
            if not self._closed:
                logger.error(loss)
            self._ended = self._closed
            return
        await asyncio.to_thread(self._replicas.end)
        forget(self._replicas.name)
        self._ended = True

    async def _learn_model(self) -> str | None:
        """Be ready once a replica with the model is. How the replicas were lost meanwhile; None: they were not."""
        asking = self._loop.create_task(self._model())
        while not asking.done():
            if self._closed or not self._replicas.alive:
                asking.cancel()
                return None if self._closed else CLUSTER_LOST
            await asyncio.wait({asking}, timeout=ASK_EVERY_S)
        model = asking.result()
        self._board.model = model.identity
        assert self._rounds is not None
        await self._rounds.hear_one()
        self.loaded_at = time.time()
        self.predictor = ReplicaPredictor(model, self._ask_any, lambda: self.counts)
        logger.info("ready: model %s on %d replica(s) of Ray", model.card.name, len(self._board.replicas))
        return None

    async def _model(self) -> ReplicaModel:
        """Of the first replica of this version, however long it takes."""
        make = partial(self._handle.model.remote, self._replicas.version)
        while True:
            with contextlib.suppress(ExecutorClosed):
                return cast("ReplicaModel", await first_answer(make, START_WITHIN_S))
            await asyncio.sleep(ASK_EVERY_S)

    async def _look_after(self) -> str | None:
        """Until it is closed and all is run. How the replicas were lost before; None: they were not."""
        assert self._calls is not None and self._rounds is not None
        while not (self._closed and not self._tasks):
            if not self._replicas.alive:
                return CLUSTER_LOST
            self._rounds.ask_all()
            self._calls.give_up_silent()
            if self._is_superseded():
                return SUPERSEDED
            await self._pause(self._board.ask_every_s)
        return None

    def _is_superseded(self) -> bool:
        """Whether no replica has this edge's model any more, for some time, nor is one at work for it."""
        if not self._board.superseded:
            self._superseded_at = None
            return False
        now = time.monotonic()
        if self._superseded_at is None:
            self._superseded_at = now
        return now - self._superseded_at > SILENT_S and not self._board.at_work

    async def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not (self._closed and not self._tasks):
            await asyncio.sleep(0.05)

    def _ask_any(self, method: str, *arguments: Any) -> Any:
        """What any replica with the model answers. Called in a thread. Raises ExecutorClosed."""
        make = partial(getattr(self._handle, method).remote, self._board.model, *arguments)
        with self._lock:
            if self.lost or self._ended:
                raise ExecutorClosed
            answer = asyncio.run_coroutine_threadsafe(first_answer(make), self._loop)
        try:
            return answer.result()
        except CancelledError:  # with everything else of the loop
            raise ExecutorClosed from None

    def _fail_all(self) -> None:
        for request in list(self._tasks):
            self._fail(request, ExecutorClosed())
            self._let_go(request)
