"""A continuous batch of a device that is none: its time is virtual, and what it does is counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dynrefer.model import BatchLimits

Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass
class FakeBatch(Generic[Item, Output]):
    """Each item takes `steps` steps of the device, and its `more_steps`, side by side with at most `capacity` others.

    answer: an item's output. cost: the views of an item, of which `views` may join at a time. every: steps between two
    turns of newcomers. admission_time, item_time: what letting some join costs, and each of them, in steps' times.
    linger: steps that are still taken where all is dropped, before there is room again.
    admit_hook: called with the newcomers before they join, step_hook with all that are here before a step; they may
    raise, wait or look. pace: called with every time that the device works.

    rows: how many items were here in each step. admissions: who joined together. time: in steps' times.
    """

    answer: Callable[[Item], Output]
    cost: Callable[[Item], int] = lambda item: 1
    steps: int = 20
    more_steps: Callable[[Item], int] = lambda item: 0
    capacity: int = 64
    views: int = 10_000
    every: int = 1
    admission_time: float = 0.0
    item_time: float = 0.0
    linger: int = 0
    admit_hook: Callable[[Sequence[Item]], None] = lambda items: None
    step_hook: Callable[[Sequence[Item]], None] = lambda items: None
    pace: Callable[[float], None] = lambda time: None
    rows: list[int] = field(default_factory=list)
    admissions: list[list[Item]] = field(default_factory=list)
    time: float = 0.0
    _here: dict[int, tuple[Item, int]] = field(default_factory=dict)  # by ticket, with the steps that are left
    _tickets: int = 0
    _since: int = 0  # steps since the last newcomers
    _lingering: int = 0  # steps for what is not here any more

    @property
    def items(self) -> list[Item]:
        """All that are here."""
        return [item for item, _ in self._here.values()]

    @property
    def room(self) -> BatchLimits:
        """See `ContinuousBatch`."""
        if self._lingering or (self._here and self._since < self.every):
            return BatchLimits(0, 0)
        return BatchLimits(self.capacity - len(self._here), self.views)

    def admit(self, regions: Sequence[Item]) -> list[int]:
        """See `ContinuousBatch`."""
        assert len(regions) <= self.room.regions and sum(map(self.cost, regions)) <= self.room.views
        self.admit_hook(regions)
        tickets = list(range(self._tickets, self._tickets + len(regions)))
        self._tickets += len(regions)
        self._here |= {
            ticket: (item, self.steps + self.more_steps(item)) for ticket, item in zip(tickets, regions, strict=True)
        }
        self.admissions.append(list(regions))
        self._since = 0
        self._work(self.admission_time + len(regions) * self.item_time)
        return tickets

    def advance(self) -> list[tuple[int, Output]]:
        """See `ContinuousBatch`."""
        if self._lingering and not self._here:
            self._lingering -= 1
            self._work(1.0)
            return []
        assert self._here
        self._lingering = 0
        try:
            self.step_hook(self.items)
        except BaseException:
            self._here.clear()
            raise
        self.rows.append(len(self._here))
        self._since += 1
        self._work(1.0)
        self._here = {ticket: (item, left - 1) for ticket, (item, left) in self._here.items()}
        complete = [(ticket, self.answer(item)) for ticket, (item, left) in self._here.items() if left == 0]
        for ticket, _ in complete:
            del self._here[ticket]
        return complete

    def drop(self, tickets: Sequence[int]) -> None:
        """See `ContinuousBatch`."""
        dropped = [self._here.pop(ticket, None) for ticket in tickets]
        if any(dropped) and not self._here:
            self._lingering = self.linger

    def run(self, items: Sequence[Item], should_stop: Callable[[], bool]) -> list[Output]:
        """The same device with a whole batch: all join, and all leave at the end."""
        self._work(self.admission_time + len(items) * self.item_time)
        for _ in range(self.steps):
            should_stop()
            self.rows.append(len(items))
            self._work(1.0)
        return [self.answer(item) for item in items]

    def _work(self, time: float) -> None:
        self.time += time
        self.pace(time)
