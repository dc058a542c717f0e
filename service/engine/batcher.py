"""A bounded queue of work items, batched across requests. It knows neither torch nor HTTP.

A request reserves room for all of its items before any work is spent on it (`reserve`), submits them once they are
prepared (`Reservation.submit`) and gets one result per item. One thread, the device's, calls `serve`; everything else
may be called from any thread. `fair_queue.py` decides which items come next, `failure_isolation.py` what happens to a
batch that fails. Whatever happens, every future resolves.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic

from dynrefer.model.errors import StoppedError
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
from dynrefer.service.errors import DeadlineExceeded, QueueFullError
from dynrefer.service.observability.logs import bind_request_id

LONG_BATCH_S = 0.25  # the longest that image work waits for a running batch
IMAGE_SHARE = 0.25  # the longest that image work may delay the next batch, as a proportion of the last one's time

REFUSALS = {
    "queue_full": "The queue is full; try again later.",
    "key_share": "Too many regions of this key are waiting; try again later.",
}

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
    """

    shares_cores = False

    def __init__(self, limits: Limits, cost: Callable[[Item], int]) -> None:
        self._limits = limits
        self._cost = cost
        self._changed = threading.Condition()
        self._queue: FairQueue[Item, Output] = FairQueue()
        self._reserved = 0  # items that are reserved and not submitted yet
        self._queued = 0  # items that are submitted and not taken yet
        self._of_key: Counter[str | None] = Counter()  # both, by key
        self._running: list[WorkItem[Item, Output]] = []
        self._closed = self._suspended = self._ended = False
        self._batches = 0
        self._throughput = ThroughputEstimator(limits.batch_regions)
        self._heartbeat = 0.0  # when the running batch last called `should_stop`
        self._began = self._ended_at = 0.0  # of the newest batch

    @property
    def waiting(self) -> int:
        """Items that are reserved or submitted and that the device has not taken yet."""
        return self._reserved + self._queued

    @property
    def cap(self) -> int:
        """The most items that a batch may hold now."""
        return self._throughput.cap

    @property
    def silent_s(self) -> float:
        """Seconds since the running batch's last heartbeat; 0 when none runs."""
        return time.monotonic() - self._heartbeat if self._running else 0.0

    @property
    def running_ids(self) -> str | None:
        """The ids of the requests in the running batch, for log lines; None when none runs."""
        return _ids(self._running)

    def wait_for_idle_cores(self) -> None:
        """Wait, where batches run on the cores of image work, until no batch runs, but not for a long one.

        Two threads of one matrix product that lose a core to image work would wait for each other.
        """
        if not self.shares_cores:
            return
        with self._changed:
            while self._running and (left := self._began + LONG_BATCH_S - time.monotonic()) > 0:
                self._changed.wait(left)

    def reserve(
        self, regions: int, key: str | None = None, deadline: float = math.inf, request_id: str = ""
    ) -> Reservation[Item, Output]:
        """Room for a whole request, at most so many items, or none.

        deadline: on the monotonic clock. request_id: for the lines that are logged while its items are run. Raises
        QueueFullError or ExecutorClosed.
        """
        with self._changed:
            if self._closed or self._ended or self._suspended:
                raise ExecutorClosed
            self._refuse_excess(self.waiting + regions - self._limits.queue_regions, 1, "queue_full")
            if self._limits.key_regions:
                excess = self._of_key[key] + regions - self._limits.key_regions
                # A key over its limit is served by its part of the throughput only.
                self._refuse_excess(excess, max(1, self._queue.num_keys), "key_share")
            self._reserved += regions
            self._of_key[key] += regions
            return Reservation(self, QueuedRequest(regions, key, deadline, request_id))

    def enqueue(
        self, request: QueuedRequest[Item, Output], items: Sequence[Item], kind: Kind
    ) -> Future[list[RegionResult[Output]]]:
        """See `Reservation.submit`."""
        costs = [self._cost(item) for item in items]  # before anything is counted: it may raise
        with self._changed:
            if self._ended or self._suspended:
                raise ExecutorClosed
            if len(items) > request.unused:
                raise ValueError(f"{len(items)} regions were submitted where {request.unused} were reserved")
            part = Part(request, kind, len(items), time.monotonic())
            request.parts.append(part)
            request.unused -= len(items)
            self._reserved -= len(items)
            self._queued += len(items)
            self._queue.add(
                [WorkItem(item, cost, index, part) for index, (item, cost) in enumerate(zip(items, costs, strict=True))]
            )
            self._changed.notify_all()
            return part.future

    def give_back(self, request: QueuedRequest[Item, Output]) -> None:
        """See `Reservation.give_back`."""
        with self._changed:
            self._release(request.key, request.unused)
            self._reserved -= request.unused
            request.unused = 0
            self._changed.notify_all()

    def cancel(self, request: QueuedRequest[Item, Output]) -> None:
        """Take out what the device has not begun; what runs is stopped once no other request waits for it either."""
        with self._changed:
            request.cancelled = True
            self.give_back(request)
            self._remove(request)
            request.fail(StoppedError("the request was cancelled."))

    def close(self) -> None:
        """Admit nothing more; `serve` returns when what is admitted has run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def suspend(self) -> None:
        """Fail everything that waits or runs, and take nothing until `resume`."""
        with self._changed:
            self._suspended = True
            self._fail_all()

    def resume(self) -> None:
        """Take requests again."""
        with self._changed:
            self._suspended = False

    def serve(self, run: Run[Item, Output]) -> None:
        """The loop of the one device thread, until `close` and an empty queue. Raises DeviceLostError if `run` does.

        However it ends, everything still waiting fails with ExecutorClosed: no future is left hanging.
        """
        try:
            while batch := self._next_batch():
                kind = batch[0].part.kind
                run_isolated(partial(self._run, run, kind), batch, self._settle, self._lower_cap)
                with self._changed:
                    self._running = []
                    self._ended_at = time.monotonic()
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._ended = True
                self._fail_all()
                self._running = []

    def _next_batch(self) -> list[WorkItem[Item, Output]]:
        """The next batch, as soon as there is one; empty when the batcher is closed and nothing is left."""
        with self._changed:
            while True:
                if self._queue:
                    self._wait_for_batch()
                    self._fail_expired()
                    if self._queue:
                        self._heartbeat = self._began = time.monotonic()
                        self._running = self._take()
                        return self._running
                elif self._closed and not self._reserved:
                    return []
                else:
                    self._changed.wait()

    def _wait_for_batch(self) -> None:
        """Wait only for items that are reserved already: a lone request is never delayed.

        On shared cores a request that was admitted during a batch has time to prepare its regions after it, even
        where the next batch is full.
        """
        batch_until = self._queue.next_submitted_at + self._limits.batch_wait_s
        image_until = self._ended_at + IMAGE_SHARE * (self._ended_at - self._began) if self.shares_cores else 0.0
        while self._reserved:
            full = self._queue.next_size >= self._throughput.cap
            remaining = (image_until if full else max(batch_until, image_until)) - time.monotonic()
            if remaining <= 0:
                return
            self._changed.wait(remaining)

    def _fail_expired(self) -> None:
        """Fail what waits beyond its deadline, before any work is spent on it."""
        now = time.monotonic()
        for request in [each for each in self._queue.requests if now >= each.deadline]:
            self._remove(request)
            request.fail(DeadlineExceeded("The deadline passed while the request was queued."))

    def _take(self) -> list[WorkItem[Item, Output]]:
        batch = self._queue.take(self._throughput.cap, self._limits.batch_views)
        for item in batch:
            self._release(item.part.request.key, 1)
        self._queued -= len(batch)
        return batch

    def _run(self, run: Run[Item, Output], kind: Kind, work: Sequence[WorkItem[Item, Output]]) -> Sequence[Output]:
        def should_stop() -> bool:
            self._heartbeat = now = time.monotonic()
            return not any(each.part.wanted(now) for each in work)

        if should_stop():
            raise StoppedError("no client waits for this batch.")
        with bind_request_id(_ids(work)):
            return run(kind, [each.item for each in work], should_stop)

    def _settle(
        self, work: Sequence[WorkItem[Item, Output]], outputs: Sequence[Output] | Exception, began: float
    ) -> None:
        with self._changed:
            self._batches += 1
            if not isinstance(outputs, Exception):
                self._throughput.ran(len(work), time.monotonic() - began)
            for place, each in enumerate(work):
                queue_ms = (began - each.part.submitted_at) * 1e3
                output, error = (None, outputs) if isinstance(outputs, Exception) else (outputs[place], None)
                each.part.record(each.index, RegionResult(output, error, queue_ms, self._batches))

    def _lower_cap(self, regions: int) -> None:
        with self._changed:
            self._throughput.lower_cap(regions)

    def _remove(self, request: QueuedRequest[Item, Output]) -> None:
        removed = self._queue.remove(request)
        self._queued -= removed
        self._release(request.key, removed)

    def _release(self, key: str | None, items: int) -> None:
        """So many items of the key wait no longer."""
        self._of_key[key] -= items
        if self._of_key[key] <= 0:
            del self._of_key[key]

    def _fail_all(self) -> None:
        for request in [*self._queue.requests, *(each.part.request for each in self._running)]:
            self._remove(request)
            request.fail(ExecutorClosed())

    def _refuse_excess(self, excess: int, shares: int, reason: str) -> None:
        if excess > 0:
            raise QueueFullError(REFUSALS[reason], self._throughput.seconds_for(excess * shares), reason)


def _ids(work: Sequence[WorkItem[Item, Output]]) -> str | None:
    """The ids of the requests that the items belong to, each once, separated by commas."""
    return ",".join(dict.fromkeys(each.part.request.id for each in work if each.part.request.id)) or None
