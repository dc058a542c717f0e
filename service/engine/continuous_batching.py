"""The loop of a device whose batch items join and leave at any time.

Between two pieces of work of some milliseconds, items that wait join the batch as far as it has room, by the queue's
turns, and those that are complete leave. What fails on the device is run as a whole batch, which finds the failing
items and lowers the cap. What fails to join tries again in halves, until the failing items stand alone; those, and what
there is no memory for, are run as whole batches once nothing else is there: the two ways never run beside each other. A
batch that fails where whole batches succeed is given up.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Generic

from dynrefer.model import ContinuousBatch
from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, StoppedError
from dynrefer.service.engine.reservations import Item, Kind, Output, WorkItem, WorkKind
from dynrefer.service.engine.throughput import Turnover
from dynrefer.service.observability.logs import bind_request_id

if TYPE_CHECKING:
    from dynrefer.service.engine.batcher import Batcher, Run

logger = logging.getLogger(__name__)

# Of so many places one is kept for requests that have nothing on the device yet, so that a request of one region does
# not wait until regions of a large one have left.
PLACES_PER_FREE_ONE = 16
BESIDE = 4  # items of another kind between two pieces of work: those on the device wait for them
MOST_FAULTS = 3  # in a row, of the batch itself, before it is given up


@dataclass(frozen=True, slots=True)
class _Aboard(Generic[Item, Output]):
    """An item on the device. began: when it joined, on the monotonic clock. number: of those that joined with it."""

    work: WorkItem[Item, Output]
    began: float
    number: int


class ContinuousBatching(Generic[Item, Output]):
    """For the device's thread alone.

    run: a whole batch; never called while items are in `batch`. kind: of the items that `batch` takes; others are run
    as whole batches.
    """

    def __init__(
        self,
        batcher: "Batcher[Item, Output]",
        run: "Run[Item, Output]",
        batch: ContinuousBatch[Any, Output],
        kind: Kind = WorkKind.DESCRIBE,
    ) -> None:
        self._batcher, self._run, self._batch, self._kind = batcher, run, batch, kind
        self._aboard: dict[int, _Aboard[Item, Output]] = {}  # by ticket
        self._halves: deque[list[WorkItem[Item, Output]]] = deque()  # of what failed to join; before newcomers
        self._apart: list[WorkItem[Item, Output]] = []  # what is to run whole; nothing joins before that
        self._fitting: int | None = None  # how many might have fitted, where memory was short
        self._turnover = Turnover()
        self._faults = 0

    def serve(self) -> None:
        """Return once the batcher is closed and nothing is left, or the batch is given up and empty.

        Raises DeviceLostError if the batch or `run` does.
        """
        while self._faults < MOST_FAULTS:
            self._drop_unwanted()
            if not self._take_and_admit():
                return
            if self._aboard or self._lingering:
                self._advance()
            elif self._apart:
                self._run_apart()
            self._note_running()
        logger.error("continuous batching failed %d times in a row and is given up", MOST_FAULTS)
        self._run_whole([*self._clear(), *chain(*self._halves), *self._apart])
        self._halves.clear()
        self._apart = []
        self._note_running()

    @property
    def _lingering(self) -> bool:
        """Whether the batch still works for items that were dropped, and has no room though nothing is in it."""
        return not self._aboard and self._batch.room.regions <= 0

    def _drop_unwanted(self) -> None:
        """Free the places of items that nobody waits for, or whose deadline has passed."""
        now = time.monotonic()
        unwanted = {ticket: each for ticket, each in self._aboard.items() if not each.work.part.wanted(now)}
        if not unwanted:
            return
        self._batch.drop(list(unwanted))
        for ticket, each in unwanted.items():
            del self._aboard[ticket]
            self._settle(each, StoppedError("no client waits for this region."))
        self._note_left(0)

    def _take_and_admit(self) -> bool:
        """Let items join that wait, if there is room; wait for some where nothing is here. False: all is over."""
        batcher, room = self._batcher, self._batch.room
        if self._lingering:
            return True
        with batcher.changed:
            while True:
                batcher.fail_expired()
                work, joins = self._choose(min(room.regions, batcher.cap - len(self._aboard)), room.views)
                if work or self._aboard or self._halves or self._apart:
                    break
                if batcher.over:
                    return False
                batcher.changed.wait()
            self._note_running(work)
        if work and joins:
            self._admit(work)
        elif work:
            batcher.run_whole(self._run, work)
        return True

    def _choose(self, places: int, views: int) -> tuple[list[WorkItem[Item, Output]], bool]:
        """Who is next, within so many places and views, and whether they join the batch. Under the lock."""
        batcher, queue = self._batcher, self._batcher.queue
        views = min(views, batcher.limits.batch_views)
        if self._apart:
            return [], False
        if self._halves:
            return self._choose_half(places, views)
        if not queue:
            return [], False
        joins = queue.next_kind == self._kind
        if joins and places > 0 and queue.next_cost <= views:
            return batcher.take(self._choose_newcomers(places, views)), True
        if self._aboard and queue.next_kind in (WorkKind.SEGMENT, WorkKind.FIND):  # nothing recorded runs in it
            return batcher.take(queue.take(min(BESIDE, batcher.cap), batcher.limits.batch_views)), False
        if self._aboard:
            return [], False  # until there is room
        # Work of another kind, or an item that the batch has no room for even while it is empty.
        return batcher.take(queue.take(batcher.cap, batcher.limits.batch_views)), False

    def _choose_half(self, places: int, views: int) -> tuple[list[WorkItem[Item, Output]], bool]:
        """As much of the first half as there is room for."""
        half = self._halves[0]
        costs = accumulate(each.cost for each in half)
        work = [each for each, cost in zip(half[: max(0, places)], costs, strict=False) if cost <= views]
        if not work and self._aboard:
            return [], True  # until there is room
        self._halves.popleft()
        if work and len(work) < len(half):
            self._halves.appendleft(half[len(work) :])
        return (work, True) if work else (half, False)

    def _choose_newcomers(self, places: int, views: int) -> list[WorkItem[Item, Output]]:
        """By turns, but the last places only one by one to requests that have nothing here yet. Under the lock."""
        queue = self._batcher.queue
        kept = self._batcher.cap // PLACES_PER_FREE_ONE
        work = queue.take(places - kept, views) if places > kept else []
        if kept and queue and queue.next_kind == self._kind:
            here = {each.work.part.request for each in self._aboard.values()} | {each.part.request for each in work}
            views -= sum(each.cost for each in work)
            work += queue.take_one_each(places - len(work), views, here)
        return work

    def _admit(self, work: list[WorkItem[Item, Output]]) -> None:
        """Let items join. Raises DeviceLostError if the batch does."""
        began, beside = time.monotonic(), len(self._aboard)
        failed, out_of_memory = "", False
        self._batcher.beat()
        with bind_request_id(self._batcher.running_ids):
            try:
                tickets = self._batch.admit([each.item for each in work])
            except DeviceLostError:
                raise
            except Exception as error:
                # The border of the device thread. The error's frames hold some of the device's memory: it goes first.
                failed, out_of_memory = type(error).__name__, isinstance(error, DeviceMemoryError)
        if not failed:
            with self._batcher.changed:
                number = self._batcher.next_batch_number()
            for ticket, each in zip(tickets, work, strict=True):
                self._aboard[ticket] = _Aboard(each, began, number)
            self._turnover.joined(len(self._aboard), began)
        elif len(work) > 1 and not out_of_memory:
            half = len(work) // 2
            # The first half is next.
            self._halves.extendleft((work[half:], work[:half]))
        else:
            with bind_request_id(self._batcher.running_ids):
                logger.warning("%d region(s) could not join those on the device: %s", len(work), failed)
            self._apart, self._fitting = work, beside + len(work) // 2 if out_of_memory else None

    def _advance(self) -> None:
        """The next piece of work. Where it fails, all that was here is run in whole batches."""
        complete: Sequence[tuple[int, Output]] = ()
        failed = out_of_memory = False
        with bind_request_id(self._batcher.running_ids):
            try:
                complete = self._batch.advance()
            except DeviceLostError:
                raise
            except Exception as error:
                # The border of the device thread: whatever a model raises, the loop lives.
                failed, out_of_memory = True, isinstance(error, DeviceMemoryError)
                logger.warning(
                    "%d region(s) on the device failed and are run anew", len(self._aboard), exc_info=not out_of_memory
                )
        self._batcher.beat()
        if failed:
            self._run_anew(out_of_memory)
            return
        left = [(self._aboard.pop(ticket), output) for ticket, output in complete if ticket in self._aboard]
        for each, output in left:
            self._settle(each, [output])
            self._faults = 0
        if left:
            self._note_left(len(left))

    def _run_anew(self, out_of_memory: bool) -> None:
        work = self._clear()
        well = self._run_whole(work)
        if work and well and out_of_memory:
            self._batcher.lower_cap(len(work) // 2)
        self._faults += bool(work) and well and not out_of_memory

    def _run_apart(self) -> None:
        """Now that nothing else is here, run what could not join."""
        work, self._apart = self._apart, []
        if self._run_whole(work):
            if self._fitting:
                self._batcher.lower_cap(self._fitting)
            else:
                self._faults += 1  # not even one can join an empty batch, though it can be run

    def _run_whole(self, work: Sequence[WorkItem[Item, Output]]) -> bool:
        """Run items in batches within the limits. Whether all went well."""
        limits, well = self._batcher.limits, True
        portion: list[WorkItem[Item, Output]] = []
        views = 0
        for each in work:
            if portion and (len(portion) >= self._batcher.cap or views + each.cost > limits.batch_views):
                well &= self._batcher.run_whole(self._run, portion)
                portion, views = [], 0
            portion.append(each)
            views += each.cost
        return (not portion or self._batcher.run_whole(self._run, portion)) and well

    def _clear(self) -> list[WorkItem[Item, Output]]:
        """Everything that was in the batch, which is empty now."""
        self._batch.drop(list(self._aboard))
        work = [each.work for each in self._aboard.values()]
        self._aboard.clear()
        self._note_left(0)
        return work

    def _settle(self, each: _Aboard[Item, Output], output: Sequence[Output] | Exception) -> None:
        with self._batcher.changed:
            self._batcher.record([each.work], output, each.began, each.number, overlapping=True)

    def _note_left(self, completed: int) -> None:
        batcher = self._batcher
        full_from = batcher.cap - batcher.cap // PLACES_PER_FREE_ONE
        self._turnover.left(completed, len(self._aboard), time.monotonic(), full_from, batcher.throughput)

    def _note_running(self, newcomers: Sequence[WorkItem[Item, Output]] = ()) -> None:
        with self._batcher.changed:
            here = [each.work for each in self._aboard.values()]
            self._batcher.set_running([*here, *chain(*self._halves), *self._apart, *newcomers])
