"""A bounded queue of work items, batched across requests. It knows neither torch nor HTTP.

A request reserves room for all of its items before any work is spent on it (`reserve`), submits them once they are
prepared (`Reservation.submit`) and gets one result per item. One thread, the device's, calls `serve`; everything else
may be called from any thread. `fair_queue.py` decides which items come next, `whole_batches.py` and
`continuous_batching.py` how they get to the device, `failure_isolation.py` what happens to a batch that fails.
Whatever happens, every future resolves.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic

from dynrefer.model import BatchLimits, ContinuousBatch
from dynrefer.model.errors import StoppedError
from dynrefer.service.engine.admission import Admission
from dynrefer.service.engine.continuous_batching import ContinuousBatching
from dynrefer.service.engine.failure_isolation import run_isolated
from dynrefer.service.engine.fair_queue import FairQueue
from dynrefer.service.engine.reservations import (
    ExecutorClosed,
    Item,
    Kind,
    Output,
    Part,
    QueuedRequest,
    RegionResult,
    Reservation,
    WorkItem,
)
from dynrefer.service.engine.throughput import ThroughputEstimator
from dynrefer.service.engine.whole_batches import serve_whole_batches
from dynrefer.service.errors import DeadlineExceeded
from dynrefer.service.observability.logs import bind_request_id

LONG_BATCH_S = 0.25  # the longest that image work waits for a running batch

# Runs a batch of one kind. It calls the last argument now and then: whether to stop; each call is a heartbeat.
Run = Callable[[Kind, Sequence[Item], Callable[[], bool]], Sequence[Output]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue and of a batch. An item of any kind counts as one region.

    batch_views: of the sum of the items' costs. key_regions: how many one key may have waiting; 0 sets no bound.
    """

    queue_regions: int
    batch_regions: int
    batch_views: int
    batch_wait_s: float
    key_regions: int = 0


class Batcher(Generic[Item, Output]):
    """The queue between many requests and one device thread.

    cost: the views that an item takes in a batch. shares_cores: whether batches run on the cores that prepare regions
    too; then both take turns.

    For the loops of the device thread alone: changed: the lock, held where the rest is touched. running: items that
    the device has taken and not given back. began, ended_at: of the newest batch, on the monotonic clock.
    """

    shares_cores = False

    def __init__(self, limits: Limits, cost: Callable[[Item], int]) -> None:
        self.limits = limits
        self.changed = threading.Condition()
        self.queue: FairQueue[Item, Output] = FairQueue()
        self.running: Sequence[WorkItem[Item, Output]] = ()
        self.throughput = ThroughputEstimator(limits.batch_regions)
        self.began = self.ended_at = 0.0
        self._cost = cost
        self._reserved = 0  # items that are reserved and not submitted yet
        self._queued = 0  # items that are submitted and not taken yet
        self._admission = Admission(limits.key_regions, lambda items: self.throughput.seconds_for(items))  # of both
        self._closed = self._suspended = self._ended = False
        self._batches = 0
        self._heartbeat = 0.0  # when the device last showed that it goes on

    @property
    def waiting(self) -> int:
        """Items that are reserved or submitted and that the device has not taken yet."""
        return self._admission.waiting

    @property
    def announced(self) -> bool:
        """Whether items are reserved and not submitted yet."""
        return self._reserved > 0

    @property
    def over(self) -> bool:
        """Whether the batcher is closed and nothing is left that the device has not taken."""
        return self._closed and not self._reserved and not self.queue

    @property
    def cap(self) -> int:
        """The most items that a batch may hold now."""
        return self.throughput.cap

    @property
    def silent_s(self) -> float:
        """Seconds since the device's last heartbeat; 0 when nothing runs."""
        return time.monotonic() - self._heartbeat if self.running else 0.0

    @property
    def running_ids(self) -> str | None:
        """The ids of the requests that run, for log lines; None when none does."""
        return _ids(self.running)

    def limit_batches(self, most: BatchLimits) -> None:
        """Bound batches anew, before `serve`."""
        self.limits = replace(self.limits, batch_regions=most.regions, batch_views=most.views)
        self.throughput = ThroughputEstimator(most.regions)

    def wait_for_idle_cores(self) -> None:
        """Wait, where batches run on the cores of image work, until no batch runs, but not for a long one.

        Two threads of one matrix product that lose a core to image work would wait for each other.
        """
        if not self.shares_cores:
            return
        with self.changed:
            while self.running and (left := self.began + LONG_BATCH_S - time.monotonic()) > 0:
                self.changed.wait(left)

    def reserve(
        self, regions: int, key: str | None = None, deadline: float = math.inf, request_id: str = ""
    ) -> Reservation[Item, Output]:
        """Room for a whole request, at most so many items, or none.

        deadline: on the monotonic clock. request_id: for the lines that are logged while its items are run. Raises
        QueueFullError or ExecutorClosed.
        """
        with self.changed:
            if self._closed or self._ended or self._suspended:
                raise ExecutorClosed
            self._admission.admit(regions, key, self.limits.queue_regions, self.queue.num_keys)
            self._reserved += regions
            return Reservation(self, QueuedRequest(regions, key, deadline, request_id))

    def enqueue(
        self, request: QueuedRequest[Item, Output], items: Sequence[Item], kind: Kind
    ) -> Future[list[RegionResult[Output]]]:
        """See `Reservation.submit`."""
        costs = [self._cost(item) for item in items]  # before anything is counted: it may raise
        with self.changed:
            if self._ended or self._suspended:
                raise ExecutorClosed
            if len(items) > request.unused:
                raise ValueError(f"{len(items)} regions were submitted where {request.unused} were reserved")
            part = Part(request, kind, len(items), time.monotonic())
            request.parts.append(part)
            request.unused -= len(items)
            self._reserved -= len(items)
            self._queued += len(items)
            self.queue.add(
                [WorkItem(item, cost, index, part) for index, (item, cost) in enumerate(zip(items, costs, strict=True))]
            )
            self.changed.notify_all()
            return part.future

    def renew(self, request: QueuedRequest[Item, Output], items: int) -> None:
        """See `Reservation.renew`."""
        with self.changed:
            if self._ended or self._suspended:
                raise ExecutorClosed
            request.unused += items
            self._reserved += items
            self._admission.add(request.key, items)

    def give_back(self, request: QueuedRequest[Item, Output], keep: int = 0) -> None:
        """See `Reservation.give_back` and `Reservation.keep`."""
        with self.changed:
            returned = max(0, request.unused - keep)
            self._admission.release(request.key, returned)
            self._reserved -= returned
            request.unused -= returned
            self.changed.notify_all()

    def cancel(self, request: QueuedRequest[Item, Output]) -> None:
        """Take out what the device has not begun; what runs is stopped once no other request waits for it either."""
        with self.changed:
            self.give_back(request)
            self._remove(request)
            request.leave()

    def close(self) -> None:
        """Admit nothing more; `serve` returns when what is admitted has run."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def suspend(self) -> None:
        """Fail everything that waits or runs, and take nothing until `resume`."""
        with self.changed:
            self._suspended = True
            self._fail_all()

    def resume(self) -> None:
        """Take requests again."""
        with self.changed:
            self._suspended = False

    def serve(self, run: Run[Item, Output], batch: ContinuousBatch[Any, Output] | None = None) -> None:
        """The loop of the one device thread, until `close` and an empty queue. Raises DeviceLostError if `run` does.

        batch: where items may join and leave at any time; None: whole batches only. However it ends, everything still
        waiting fails with ExecutorClosed: no future is left hanging.
        """
        try:
            if batch is not None:
                ContinuousBatching(self, run, batch).serve()
            serve_whole_batches(self, run)
        finally:
            with self.changed:
                self._ended = True
                self._fail_all()
                self.running = ()

    def take(self, work: list[WorkItem[Item, Output]]) -> list[WorkItem[Item, Output]]:
        """Note that the items, which have left the queue, wait no longer. Under the lock."""
        for item in work:
            self._admission.release(item.part.request.key, 1)
        self._queued -= len(work)
        return work

    def fail_expired(self) -> None:
        """Fail what waits beyond its deadline, before any work is spent on it. Under the lock."""
        now = time.monotonic()
        for request in [each for each in self.queue.requests if now >= each.deadline]:
            self._remove(request)
            request.fail(DeadlineExceeded("The deadline passed while the request was queued."))

    def set_running(self, work: Sequence[WorkItem[Item, Output]]) -> None:
        """So much is on the device from now on. Under the lock."""
        if bool(work) != bool(self.running):
            if work:
                self.began = time.monotonic()
                self.beat()
            else:
                self.ended_at = time.monotonic()
        self.running = work
        self.changed.notify_all()

    def beat(self) -> None:
        """A sign that the device goes on."""
        self._heartbeat = time.monotonic()

    def run_whole(self, run: Run[Item, Output], work: Sequence[WorkItem[Item, Output]]) -> bool:
        """Run items of one kind as a batch of their own; where it fails, in halves. Whether all went well.

        Raises DeviceLostError if `run` does.
        """
        kind = work[0].part.kind
        return run_isolated(partial(self._run, run, kind), work, self._settle, self.lower_cap)

    def record(
        self,
        work: Sequence[WorkItem[Item, Output]],
        outputs: Sequence[Output] | Exception,
        began: float,
        batch: int,
        overlapping: bool = False,
    ) -> None:
        """Resolve the items with their outputs or one error. Under the lock. See `RegionResult`."""
        for place, each in enumerate(work):
            queue_ms = (began - each.part.submitted_at) * 1e3
            output, error = (None, outputs) if isinstance(outputs, Exception) else (outputs[place], None)
            each.part.record(each.index, RegionResult(output, error, queue_ms, batch, overlapping))

    def next_batch_number(self) -> int:
        """What the items of one batch share. Under the lock."""
        self._batches += 1
        return self._batches

    def lower_cap(self, regions: int) -> None:
        """Allow no larger batch for now."""
        with self.changed:
            self.throughput.lower_cap(regions)

    def _run(self, run: Run[Item, Output], kind: Kind, work: Sequence[WorkItem[Item, Output]]) -> Sequence[Output]:
        def should_stop() -> bool:
            self.beat()
            now = time.monotonic()
            return not any(each.part.wanted(now) for each in work)

        if should_stop():
            raise StoppedError("no client waits for this batch.")
        with bind_request_id(_ids(work)):
            return run(kind, [each.item for each in work], should_stop)

    def _settle(
        self, work: Sequence[WorkItem[Item, Output]], outputs: Sequence[Output] | Exception, began: float
    ) -> None:
        with self.changed:
            if not isinstance(outputs, Exception):
                self.throughput.ran(len(work), time.monotonic() - began)
            self.record(work, outputs, began, self.next_batch_number())

    def _remove(self, request: QueuedRequest[Item, Output]) -> None:
        removed = self.queue.remove(request)
        self._queued -= removed
        self._admission.release(request.key, removed)

    def _fail_all(self) -> None:
        for request in [*self.queue.requests, *(each.part.request for each in self.running)]:
            self._remove(request)
            request.fail(ExecutorClosed())


def _ids(work: Sequence[WorkItem[Item, Output]]) -> str | None:
    """The ids of the requests that the items belong to, each once, separated by commas."""
    return ",".join(dict.fromkeys(each.part.request.id for each in work if each.part.request.id)) or None
