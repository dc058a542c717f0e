"""A bounded queue of regions, batched across requests. It knows no torch and no HTTP.

A request is admitted whole, before any work is spent on it (`admit`), hands in its regions once they are
prepared (`Ticket.submit`) and gets one outcome per region. One thread, the device's, calls `serve`; everyone
else may call from any thread. Regions are taken from the waiting requests in turn, one each, so that a large
request cannot hold up a small one. A failed batch fails its own regions and the loop goes on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")

# The weight of the newest batch in the running drain rate.
RATE_SMOOTHING = 0.2


class FullError(Exception):
    """No room for the whole request. retry_after_s: when there should be, by the measured drain rate."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_s = retry_after_s


class ClosedError(Exception):
    """The batcher takes nothing any more, or its thread has ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue and of a batch. `batch_views` bounds the sum of the items' costs."""

    queue_regions: int
    batch_regions: int
    batch_views: int
    batch_wait_s: float


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Output]):
    """What became of one region: output or error. batch: a number that the regions of one batch share."""

    output: Output | None
    error: Exception | None
    queue_ms: float
    batch: int


@dataclass(slots=True)
class _Job(Generic[Item, Output]):
    item: Item
    cost: int
    index: int
    ticket: "Ticket[Item, Output]"


class Ticket(Generic[Item, Output]):
    """One admitted request. Use it as a context manager: leaving gives back whatever is still waiting."""

    def __init__(self, batcher: "Batcher[Item, Output]", regions: int) -> None:
        self._batcher = batcher
        self.regions = regions
        self.unsubmitted = regions
        self.waiting: deque[_Job[Item, Output]] = deque()
        self.submitted_at = 0.0
        self.outcomes: list[Outcome[Output] | None] = [None] * regions
        self.missing = regions
        self.future: Future[list[Outcome[Output]]] = Future()
        # Running from the start: whoever awaits it may give up, but cannot cancel what the device thread
        # will set.
        self.future.set_running_or_notify_cancel()

    def submit(self, items: Sequence[Item]) -> Future[list[Outcome[Output]]]:
        """Hand in the prepared regions, as many as were admitted. ClosedError: the thread has ended."""
        self._batcher.enqueue(self, items)
        return self.future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher.withdraw(self)


class Batcher(Generic[Item, Output]):
    """The queue between many requests and one device thread. cost: views that an item takes in a batch."""

    def __init__(self, limits: Limits, cost: Callable[[Item], int]) -> None:
        self._limits = limits
        self._cost = cost
        self._changed = threading.Condition()
        self._tickets: deque[Ticket[Item, Output]] = deque()  # those with waiting jobs, next in turn first
        self._announced = 0  # admitted, still being prepared
        self._queued = 0  # handed in, not yet taken
        self._running: list[_Job[Item, Output]] = []
        self._closed = False
        self._ended = False
        self._batches = 0
        self._regions_per_s = 0.0

    @property
    def waiting(self) -> int:
        """Regions that are admitted and that the device has not taken yet."""
        return self._announced + self._queued

    def admit(self, regions: int) -> Ticket[Item, Output]:
        """Room for a whole request or none. Raises FullError or ClosedError."""
        with self._changed:
            if self._closed or self._ended:
                raise ClosedError
            if self.waiting + regions > self._limits.queue_regions:
                raise FullError(self._seconds_to_drain(self.waiting + regions - self._limits.queue_regions))
            self._announced += regions
            return Ticket(self, regions)

    def enqueue(self, ticket: Ticket[Item, Output], items: Sequence[Item]) -> None:
        """See `Ticket.submit`."""
        if len(items) != ticket.regions:
            raise ValueError(f"{ticket.regions} regions were admitted, {len(items)} handed in")
        jobs = [_Job(item, self._cost(item), index, ticket) for index, item in enumerate(items)]
        with self._changed:
            if self._ended:
                raise ClosedError
            self._announced -= ticket.unsubmitted
            ticket.unsubmitted = 0
            ticket.submitted_at = time.monotonic()
            ticket.waiting.extend(jobs)
            self._tickets.append(ticket)
            self._queued += len(jobs)
            self._changed.notify_all()

    def withdraw(self, ticket: Ticket[Item, Output]) -> None:
        """Take out what the device has not begun; what runs is finished and thrown away."""
        with self._changed:
            self._announced -= ticket.unsubmitted
            ticket.unsubmitted = 0
            if ticket.waiting:
                self._queued -= len(ticket.waiting)
                ticket.waiting.clear()
                self._tickets.remove(ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """Admit nothing more; `serve` returns when what is admitted has run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def serve(self, run: Callable[[Sequence[Item]], Sequence[Output]]) -> None:
        """The loop of the one device thread, until `close` and an empty queue.

        However it ends, everything still waiting fails with ClosedError: no future is left hanging.
        """
        try:
            while batch := self._next_batch():
                self._run_batch(run, batch)
        finally:
            self._abandon()

    def _next_batch(self) -> list[_Job[Item, Output]]:
        """The next batch, as soon as there is one; empty when the batcher is closed and has run dry."""
        with self._changed:
            while True:
                if self._queued:
                    self._await_company()
                    self._running = self._take()
                    if self._running:
                        self._batches += 1
                        return self._running
                elif self._closed and not self._announced:
                    return []
                else:
                    self._changed.wait()

    def _await_company(self) -> None:
        """Wait only for regions that are announced already: a lone request is never held up."""
        due = self._tickets[0].submitted_at + self._limits.batch_wait_s
        while self._announced and self._queued < self._limits.batch_regions:
            remaining = due - time.monotonic()
            if remaining <= 0:
                return
            self._changed.wait(remaining)

    def _take(self) -> list[_Job[Item, Output]]:
        """One region of each waiting request in turn, until the batch is full. Called under the lock."""
        batch: list[_Job[Item, Output]] = []
        views = 0
        while self._tickets and len(batch) < self._limits.batch_regions:
            ticket = self._tickets[0]
            if batch and views + ticket.waiting[0].cost > self._limits.batch_views:
                break
            self._tickets.popleft()
            batch.append(ticket.waiting.popleft())
            views += batch[-1].cost
            if ticket.waiting:
                self._tickets.append(ticket)
        self._queued -= len(batch)
        return batch

    def _run_batch(self, run: Callable[[Sequence[Item]], Sequence[Output]], batch: list[_Job[Item, Output]]) -> None:
        began = time.monotonic()
        outputs: Sequence[Output | None] = [None] * len(batch)
        error: Exception | None = None
        try:
            outputs = run([job.item for job in batch])
            if len(outputs) != len(batch):
                raise RuntimeError(f"{len(batch)} regions went in, {len(outputs)} outputs came out")
        except Exception as raised:
            # The border of the device thread: whatever a model raises belongs to these regions, and the loop
            # lives. A BaseException (the thread is being ended) leaves `_running` to `_abandon`.
            error, outputs = raised, [None] * len(batch)
        self._measure(len(batch), time.monotonic() - began)
        for job, output in zip(batch, outputs, strict=True):
            self._resolve(job, Outcome(output, error, (began - job.ticket.submitted_at) * 1e3, self._batches))
        with self._changed:
            self._running = []

    def _resolve(self, job: _Job[Item, Output], outcome: Outcome[Output]) -> None:
        ticket = job.ticket
        ticket.outcomes[job.index] = outcome
        ticket.missing -= 1
        if ticket.missing == 0:
            ticket.future.set_result([each for each in ticket.outcomes if each is not None])

    def _abandon(self) -> None:
        """The thread ends: nothing is admitted any more, and every unresolved ticket fails."""
        with self._changed:
            self._ended = True
            tickets = {id(job.ticket): job.ticket for job in self._running}
            tickets.update((id(ticket), ticket) for ticket in self._tickets)
            self._running, self._queued = [], 0
            self._tickets.clear()
            for ticket in tickets.values():
                ticket.waiting.clear()  # nothing is left to withdraw
        for ticket in tickets.values():
            if not ticket.future.done():
                ticket.future.set_exception(ClosedError())

    def _measure(self, regions: int, seconds: float) -> None:
        rate = regions / max(seconds, 1e-6)
        first = self._regions_per_s == 0.0
        self._regions_per_s = rate if first else self._regions_per_s + RATE_SMOOTHING * (rate - self._regions_per_s)

    def _seconds_to_drain(self, regions: int) -> float:
        return regions / self._regions_per_s if self._regions_per_s else 1.0
