"""A bounded queue of regions, batched across requests. It knows no torch and no HTTP.

A request is admitted whole, before any work is spent on it (`admit`), hands in its regions once they are prepared
(`Reservation.submit`) and gets one outcome per region. One thread, the device's, calls `serve`; everyone else may call
from any thread. Whose regions come next is told in `turns.py`. A batch that fails is run again in halves, down to
the regions that fail by themselves; they alone fail. Whatever happens, every future resolves.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Self

from dynrefer.service.engine.batch_errors import BatcherClosed, Cancelled, DeadlineExceeded, DeviceLost, QueueFull
from dynrefer.service.engine.fair_queue import FairQueue, Item, Output, QueuedRequest, RegionResult, WorkItem
from dynrefer.service.engine.throughput import ThroughputEstimator

LONG_BATCH_S = 0.25  # image work waits so long for a batch to end
IMAGE_SHARE = 0.25  # of a batch's time: so long it may hold up the next one

# Runs a batch; asks the second argument now and then whether it should stop, which is also its sign of life.
Run = Callable[[Sequence[Item], Callable[[], bool]], Sequence[Output]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue and of a batch. batch_views: of the sum of the items' costs. key_regions: what one key may
    have waiting; 0 sets no bound."""

    queue_regions: int
    batch_regions: int
    batch_views: int
    batch_wait_s: float
    key_regions: int = 0


class Reservation(Generic[Item, Output]):
    """An admitted request's hold on its room. A context manager: leaving gives back whatever is still waiting."""

    def __init__(self, batcher: "Batcher[Item, Output]", request: QueuedRequest[Item, Output]) -> None:
        self._batcher = batcher
        self._request = request

    def submit(self, items: Sequence[Item]) -> Future[list[RegionResult[Output]]]:
        """Hand in the prepared regions, as many as were admitted. BatcherClosed: nothing is taken any more.

        The future fails with BatcherClosed or DeadlineExceeded where the regions are not run.
        """
        self._batcher.enqueue(self._request, items)
        return self._request.future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher.withdraw(self._request)


class Batcher(Generic[Item, Output]):
    """The queue between many requests and one device thread.

    cost: views that an item takes in a batch. crowding: the error that fewer regions at once may not meet.
    shares_cores: whether batches run on the cores that prepare regions too; then both take turns.
    """

    shares_cores = False

    def __init__(self, limits: Limits, cost: Callable[[Item], int], crowding: type[Exception] = MemoryError) -> None:
        self._limits = limits
        self._crowding = crowding
        self._cost = cost
        self._changed = threading.Condition()
        self._turns: FairQueue[Item, Output] = FairQueue()
        self._announced = 0  # regions admitted, still being prepared
        self._queued = 0  # handed in, not yet taken
        self._of_key: Counter[str | None] = Counter()  # both, by key
        self._running: list[WorkItem[Item, Output]] = []
        self._closed = self._suspended = self._ended = False
        self._batches = 0
        self._pace = ThroughputEstimator(limits.batch_regions)
        self._beat = 0.0  # when the running batch last gave a sign of life
        self._began = self._ended_at = 0.0  # of the newest batch

    @property
    def waiting(self) -> int:
        """Regions that are admitted and that the device has not taken yet."""
        return self._announced + self._queued

    @property
    def cap(self) -> int:
        """The most regions that a batch may hold now."""
        return self._pace.cap

    @property
    def silent_s(self) -> float:
        """For how long the running batch has given no sign of life; 0 when none runs."""
        return time.monotonic() - self._beat if self._running else 0.0

    def wait_for_idle_device(self) -> None:
        """Return when no batch runs, or at once where one has been running for long: for image work that has no
        cores of its own. Two threads of one product that lose a core to it wait for each other."""
        with self._changed:
            while self._running and (left := self._began + LONG_BATCH_S - time.monotonic()) > 0:
                self._changed.wait(left)

    def admit(self, regions: int, key: str | None = None, deadline: float = math.inf) -> Reservation[Item, Output]:
        """Room for a whole request or none. deadline: on the monotonic clock. Raises QueueFull or BatcherClosed."""
        with self._changed:
            if self._closed or self._ended or self._suspended:
                raise BatcherClosed
            self._refuse_excess(self.waiting + regions - self._limits.queue_regions, 1, "queue_full")
            if self._limits.key_regions:
                excess = self._of_key[key] + regions - self._limits.key_regions
                # A key that has too much gets its share of the drain only.
                self._refuse_excess(excess, max(1, self._turns.num_keys), "key_share")
            self._announced += regions
            self._of_key[key] += regions
            return Reservation(self, QueuedRequest(regions, key, deadline))

    def enqueue(self, request: QueuedRequest[Item, Output], items: Sequence[Item]) -> None:
        """See `Reservation.submit`."""
        if len(items) != request.regions:
            raise ValueError(f"{request.regions} regions were admitted, {len(items)} handed in")
        jobs = [WorkItem(item, self._cost(item), index, request) for index, item in enumerate(items)]
        with self._changed:
            if self._ended or self._suspended:
                raise BatcherClosed
            self._announced -= request.announced
            request.announced = 0
            request.submitted_at = time.monotonic()
            request.waiting.extend(jobs)
            self._turns.add(request)
            self._queued += len(jobs)
            self._changed.notify_all()

    def withdraw(self, request: QueuedRequest[Item, Output]) -> None:
        """Take out what the device has not begun; what runs is stopped once nobody else waits for it either."""
        with self._changed:
            request.given_up = True
            self._announced -= request.announced
            self._of_key[request.key] -= request.announced
            request.announced = 0
            self._remove(request)
            if self._of_key[request.key] == 0:
                del self._of_key[request.key]
            self._changed.notify_all()

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
        """The loop of the one device thread, until `close` and an empty queue. Raises DeviceLost if `run` does.

        However it ends, everything still waiting fails with BatcherClosed: no future is left hanging.
        """
        try:
            while batch := self._next_batch():
                self._run_apart(run, batch)
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
        """The next batch, as soon as there is one; empty when the batcher is closed and has run dry."""
        with self._changed:
            while True:
                if self._turns:
                    self._wait_for_batch()
                    self._expire()
                    if self._turns:
                        self._beat = self._began = time.monotonic()
                        self._running = self._take()
                        return self._running
                elif self._closed and not self._announced:
                    return []
                else:
                    self._changed.wait()

    def _wait_for_batch(self) -> None:
        """Wait only for regions that are announced already: a lone request is never held up.

        On shared cores whoever was announced during a batch has a turn behind it, also where the next one is full.
        """
        company_until = min(request.submitted_at for request in self._turns) + self._limits.batch_wait_s
        turn_until = self._ended_at + IMAGE_SHARE * (self._ended_at - self._began) if self.shares_cores else 0.0
        while self._announced:
            full = self._queued >= self._pace.cap
            remaining = (turn_until if full else max(company_until, turn_until)) - time.monotonic()
            if remaining <= 0:
                return
            self._changed.wait(remaining)

    def _expire(self) -> None:
        """Fail what waits beyond its deadline, before any work is spent on it."""
        now = time.monotonic()
        for request in [each for each in self._turns if now >= each.deadline]:
            self._remove(request)
            request.fail(DeadlineExceeded())

    def _take(self) -> list[WorkItem[Item, Output]]:
        batch: list[WorkItem[Item, Output]] = []
        views = 0
        while self._turns and len(batch) < self._pace.cap:
            if batch and views + self._turns.next_cost() > self._limits.batch_views:
                break
            batch.append(self._turns.take())
            views += batch[-1].cost
            self._of_key[batch[-1].request.key] -= 1
        self._queued -= len(batch)
        return batch

    def _run_apart(self, run: Run[Item, Output], jobs: list[WorkItem[Item, Output]]) -> bool:
        """Run the jobs together; where that fails, in halves, until the failing ones stand alone.

        Whether all went well in the end. If so, and crowding was the trouble, later batches are smaller.
        """
        began = time.monotonic()
        outputs: Sequence[Output | None] = [None] * len(jobs)
        error: Exception | None = None
        try:
            outputs = self._run_together(run, jobs)
        except DeviceLost:
            raise
        except Exception as raised:
            # The border of the device thread: whatever a model raises belongs to these regions, and the loop lives.
            error = raised
        if error is None or isinstance(error, Cancelled) or len(jobs) == 1:
            self._resolve(jobs, outputs, error, began)
            return error is None
        crowded = isinstance(error, self._crowding)
        del error  # with it go the frames of the failed run and what they hold of the device's memory
        half = len(jobs) // 2
        well = [self._run_apart(run, part) for part in (jobs[:half], jobs[half:])]
        if crowded and all(well):
            with self._changed:
                self._pace.lower_cap(half)
        return all(well)

    def _run_together(self, run: Run[Item, Output], jobs: Sequence[WorkItem[Item, Output]]) -> Sequence[Output]:
        def should_stop() -> bool:
            self._beat = now = time.monotonic()
            return not any(job.request.wanted(now) for job in jobs)

        if should_stop():
            raise Cancelled
        began = time.monotonic()
        outputs = run([job.item for job in jobs], should_stop)
        if len(outputs) != len(jobs):
            raise RuntimeError(f"{len(jobs)} regions went in, {len(outputs)} outputs came out")
        with self._changed:
            self._pace.ran(len(jobs), time.monotonic() - began)
        return outputs

    def _resolve(
        self,
        jobs: Sequence[WorkItem[Item, Output]],
        outputs: Sequence[Output | None],
        error: Exception | None,
        began: float,
    ) -> None:
        with self._changed:
            self._batches += 1
            for job, output in zip(jobs, outputs, strict=True):
                queue_ms = (began - job.request.submitted_at) * 1e3
                job.request.record(job.index, RegionResult(output, error, queue_ms, self._batches))

    def _remove(self, request: QueuedRequest[Item, Output]) -> None:
        if request.waiting:
            self._turns.remove(request)
            self._queued -= len(request.waiting)
            self._of_key[request.key] -= len(request.waiting)
            request.waiting.clear()

    def _fail_all(self) -> None:
        for request in [*self._turns, *(job.request for job in self._running)]:
            self._remove(request)
            request.fail(BatcherClosed())

    def _refuse_excess(self, excess: int, shares: int, reason: str) -> None:
        if excess > 0:
            raise QueueFull(self._pace.seconds_for(excess * shares), reason)
