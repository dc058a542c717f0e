"""A request's place in the queue: room for at most N items of work, submitted in one part or several.

A request is admitted as a whole, before any work is spent on it. Each part that it submits has one future; room that
it does not use it gives back. Nothing here locks: the queue does.
"""

import math
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, Self, TypeVar

from dynrefer.model.errors import StoppedError
from dynrefer.service.engine.kept_errors import kept

Item = TypeVar("Item")
Output = TypeVar("Output")

# A batch holds items of one kind only; any hashable value names a kind.
Kind = Hashable


class WorkKind(Enum):
    """The kinds of work that the service has."""

    DESCRIBE = "describe regions"
    SEGMENT = "find the masks of objects that points lie on"
    FIND = "find regions"
    CONVERSE = "answer questions"


class ExecutorClosed(Exception):
    """The executor takes no work now or any more, or lost its device before this was run."""


@dataclass(frozen=True, slots=True)
class RegionResult(Generic[Output]):
    """What became of one item: output or error.

    queue_ms: from its submission to the start of its run, or until it joined the others on the device. batch: a number
    that the items of one run, or those that joined together, share. overlapping: whether other batches may have been
    on the device beside its own, and not only before and after it.
    """

    output: Output | None
    error: Exception | None
    queue_ms: float
    batch: int
    overlapping: bool = False


class QueuedRequest(Generic[Item, Output]):
    """One admitted request.

    unused: items that are reserved and not submitted yet. deadline: on the monotonic clock; past it nothing more is
    run for the request. id: for log lines. cancelled: no client waits for it any more.
    """

    def __init__(self, reserved: int, key: str | None = None, deadline: float = math.inf, id: str = "") -> None:
        self.unused = reserved
        self.key = key
        self.deadline = deadline
        self.id = id
        self.cancelled = False
        self.parts: list[Part[Item, Output]] = []

    def fail(self, error: Exception) -> None:
        """Resolve with an error every part that is not resolved yet."""
        kept(error)
        for part in self.parts:
            if not part.future.done():
                part.future.set_exception(error)

    def leave(self) -> None:
        """Fail what is not resolved yet, for nobody waits for it any more, and let go of all parts.

        An error that a part was resolved with has passed through those who hold the request.
        """
        self.cancelled = True
        self.fail(StoppedError("the request was cancelled."))
        self.parts.clear()


class Part(Generic[Item, Output]):
    """Items of one kind that a request submitted together, and the future of their results, in order."""

    def __init__(self, request: QueuedRequest[Item, Output], kind: Kind, size: int, submitted_at: float) -> None:
        self.request = request
        self.kind = kind
        self.submitted_at = submitted_at  # on the monotonic clock
        self._results: list[RegionResult[Output] | None] = [None] * size
        self._missing = size
        self.future: Future[list[RegionResult[Output]]] = Future()
        # Running from the start: whoever awaits it cannot cancel what the device thread will set.
        self.future.set_running_or_notify_cancel()
        if not size:
            self.future.set_result([])

    def wanted(self, now: float) -> bool:
        """Whether anybody still waits for it."""
        return not self.request.cancelled and now < self.request.deadline and not self.future.done()

    def record(self, index: int, result: RegionResult[Output]) -> None:
        """Note one item's result; the last one resolves the future."""
        if result.error is not None:
            kept(result.error)
        self._results[index] = result
        self._missing -= 1
        if self._missing == 0 and not self.future.done():
            self.future.set_result([each for each in self._results if each is not None])


@dataclass(slots=True)
class WorkItem(Generic[Item, Output]):
    """One item of a part. cost: the views that it takes in a batch."""

    item: Item
    cost: int
    index: int
    part: Part[Item, Output]


class WorkQueue(Protocol[Item, Output]):
    """What reservations are made in: the batcher of this process, or one in front of other processes. Any thread."""

    def enqueue(
        self, request: QueuedRequest[Item, Output], items: Sequence[Item], kind: Kind
    ) -> Future[list[RegionResult[Output]]]:
        """See `Reservation.submit`."""

    def renew(self, request: QueuedRequest[Item, Output], items: int) -> None:
        """See `Reservation.renew`."""

    def give_back(self, request: QueuedRequest[Item, Output], keep: int = 0) -> None:
        """See `Reservation.give_back` and `Reservation.keep`."""

    def cancel(self, request: QueuedRequest[Item, Output]) -> None:
        """Run nothing more for the request, and release all its room."""


class Reservation(Generic[Item, Output]):
    """The room of an admitted request. A context manager: leaving it cancels whatever has not been run."""

    def __init__(self, queue: WorkQueue[Item, Output], request: QueuedRequest[Item, Output]) -> None:
        self._queue = queue
        self._request = request

    def submit(self, items: Sequence[Item], kind: Kind = WorkKind.DESCRIBE) -> Future[list[RegionResult[Output]]]:
        """Submit the next part; its results come in the order of `items`.

        Raises ValueError for more items than are left of the reservation, ExecutorClosed where nothing is taken any
        more. The future fails with ExecutorClosed or DeadlineExceeded where the items are not run, and with
        StoppedError once the reservation is left.
        """
        return self._queue.enqueue(self._request, items, kind)

    def renew(self, items: int) -> None:
        """Room for so many items again, once as many were run. Never refused: the request was admitted with them.

        Raises ExecutorClosed where nothing is taken any more.
        """
        self._queue.renew(self._request, items)

    def keep(self, items: int) -> None:
        """Give back unused room beyond so many items."""
        self._queue.give_back(self._request, items)

    def ensure(self, items: int) -> None:
        """Room for so many items: what is left of the reservation, and what that lacks anew, as `renew` gives it."""
        if items > self._request.unused:
            self.renew(items - self._request.unused)

    def give_back(self) -> None:
        """Give the unused room to other requests; nothing more can be submitted. What was submitted goes on."""
        self._queue.give_back(self._request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.cancel(self._request)
