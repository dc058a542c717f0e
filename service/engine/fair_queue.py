"""Admitted requests and whose turn it is. Nothing here locks: the batcher does.

Keys take turns, and within a key its requests do, one region each. So neither a large request nor a busy key can
hold up a small one: whoever waits is served within one round.
"""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class RegionResult(Generic[Output]):
    """What became of one region: output or error. batch: a number that the regions of one run share."""

    output: Output | None
    error: Exception | None
    queue_ms: float
    batch: int


@dataclass(slots=True)
class WorkItem(Generic[Item, Output]):
    """One region of a request. cost: the views that it takes in a batch."""

    item: Item
    cost: int
    index: int
    request: "QueuedRequest[Item, Output]"


class QueuedRequest(Generic[Item, Output]):
    """One admitted request. deadline: on the monotonic clock; past it nothing more is run for the request.

    announced: regions that are admitted but not handed in yet. waiting: those that the device has not taken.
    """

    def __init__(self, regions: int, key: str | None = None, deadline: float = math.inf) -> None:
        self.regions = self.announced = self.missing = regions
        self.key = key
        self.deadline = deadline
        self.waiting: deque[WorkItem[Item, Output]] = deque()
        self.submitted_at = 0.0
        self.given_up = False
        self.outcomes: list[RegionResult[Output] | None] = [None] * regions
        self.future: Future[list[RegionResult[Output]]] = Future()
        # Running from the start: whoever awaits it may give up, but cannot cancel what the device thread will set.
        self.future.set_running_or_notify_cancel()

    def wanted(self, now: float) -> bool:
        """Whether anybody still waits for it."""
        return not self.given_up and now < self.deadline and not self.future.done()

    def fail(self, error: Exception) -> None:
        """Resolve it with an error, unless it is resolved already."""
        if not self.future.done():
            self.future.set_exception(error)

    def record(self, index: int, outcome: RegionResult[Output]) -> None:
        """Note one region's outcome; the last one resolves the request."""
        self.outcomes[index] = outcome
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result([each for each in self.outcomes if each is not None])


class FairQueue(Generic[Item, Output]):
    """Requests with waiting regions. The first key's first request is next."""

    def __init__(self) -> None:
        self._keys: dict[str | None, deque[QueuedRequest[Item, Output]]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __iter__(self) -> Iterator[QueuedRequest[Item, Output]]:
        for requests in self._keys.values():
            yield from requests

    @property
    def num_keys(self) -> int:
        """How many keys have something waiting."""
        return len(self._keys)

    def add(self, request: QueuedRequest[Item, Output]) -> None:
        """Behind the other requests of its key; a key that had nothing waiting comes last."""
        self._keys.setdefault(request.key, deque()).append(request)

    def remove(self, request: QueuedRequest[Item, Output]) -> None:
        """Take it out, wherever it stands."""
        requests = self._keys[request.key]
        requests.remove(request)
        if not requests:
            del self._keys[request.key]

    def next_cost(self) -> int:
        """What the next region costs."""
        return next(iter(self)).waiting[0].cost

    def take(self) -> WorkItem[Item, Output]:
        """The next region; its request and its key then wait until all others had theirs."""
        key = next(iter(self._keys))
        requests = self._keys.pop(key)
        request = requests.popleft()
        item = request.waiting.popleft()
        if request.waiting:
            requests.append(request)
        if requests:
            self._keys[key] = requests
        return item
