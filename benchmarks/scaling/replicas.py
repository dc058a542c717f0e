"""A replica: a process that receives calls, and its device, in whole batches or with regions that join at any time."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.scaling.kernel import Call, Servers, Shared, Simulation


@dataclass(frozen=True)
class Curve:
    """A value by number of regions: measured at some, on straight lines between them, and beyond the last one as at
    it (a rate) or in proportion to it (a time)."""

    points: tuple[tuple[int, float], ...]
    proportional: bool = False

    @classmethod
    def of(cls, values: Mapping[int, float], proportional: bool = False) -> Curve:
        """From at least one measured point."""
        if not values:
            raise ValueError("a curve needs at least one measured point.")
        return cls(tuple(sorted(values.items())), proportional)

    def __call__(self, regions: int) -> float:
        """At so many regions, at least one."""
        points = self.points
        first, last = points[0], points[-1]
        if regions <= first[0]:
            return first[1] if self.proportional else first[1] * regions / first[0]
        if regions >= last[0]:
            return last[1] * (regions / last[0] if self.proportional else 1)
        place = bisect_left(points, (regions, float("-inf")))
        (x0, y0), (x1, y1) = points[place - 1], points[place]
        return y0 + (y1 - y0) * (regions - x0) / (x1 - x0)

    def table(self, most: int) -> Callable[[int], float]:
        """The same, looked up, up to so many regions."""
        values = [self(max(1, regions)) for regions in range(most + 1)]
        return lambda regions: values[min(regions, most)]


@dataclass(frozen=True)
class DeviceCosts:
    """What a device does.

    most: regions in a batch, or at a time. rate: regions per second with so many in flight, all the time (a device that
    regions join and leave at any time); None for whole batches. batch_s: time of a whole batch of so many.
    """

    name: str
    most: int
    rate: Curve | None = None
    batch_s: Curve | None = None

    @property
    def regions_per_s(self) -> float:
        """At the most."""
        if self.rate is not None:
            return max(self.rate(number) for number in range(1, self.most + 1))
        assert self.batch_s is not None
        return max(number / self.batch_s(number) for number in range(1, self.most + 1))


class Device(Protocol):
    """Regions in, one call when those that were added together and end together are done, their number last."""

    busy_s: float
    done: float

    def add(self, units: int, work: float, call: Call, *arguments: Any) -> None:
        """So many regions."""

    def clear(self) -> None:
        """Forget everything."""


class WholeBatches:
    """One batch after another, first come, first served. process: of the replica, where its device is the processor: a
    batch and whatever else the process does take turns; None: a device of its own."""

    def __init__(self, clock: Simulation, costs: DeviceCosts, process: Servers | None = None) -> None:
        assert costs.batch_s is not None
        self.clock, self.most, self.process = clock, costs.most, process
        self.batch_s = costs.batch_s.table(costs.most)
        self.busy_s = self.done = 0.0
        self._queue: deque[tuple[int, Call, tuple[Any, ...]]] = deque()
        self._running = False
        self._life = 0

    def add(self, units: int, work: float, call: Call, *arguments: Any) -> None:
        """See `Device`. work: of no meaning here."""
        self._queue.append((units, call, arguments))
        if not self._running:
            self._running = True
            # All that comes at this moment can be in the batch.
            self.clock.at(self.clock.now, self._begin, self._life)

    def clear(self) -> None:
        """See `Device`."""
        self._queue.clear()
        self._running = False
        self._life += 1

    def _begin(self, life: int) -> None:
        if life != self._life:
            return
        batch: list[tuple[int, Call, tuple[Any, ...]]] = []
        free = self.most
        while self._queue and free:
            units, call, arguments = self._queue.popleft()
            if units > free:
                self._queue.appendleft((units - free, call, arguments))
                units = free
            batch.append((units, call, arguments))
            free -= units
        self._running = bool(batch)
        if not batch:
            return
        regions = self.most - free
        seconds = self.batch_s(regions)
        self.busy_s += seconds
        self.done += regions
        if self.process is None:
            self.clock.at(self.clock.now + seconds, self._end, life, batch)
        else:
            self.process.add(seconds, self._end, life, batch)

    def _end(self, life: int, batch: list[tuple[int, Call, tuple[Any, ...]]]) -> None:
        if life != self._life:
            return
        self._begin(life)
        for units, call, arguments in batch:
            call(*arguments, units)


def device_of(clock: Simulation, costs: DeviceCosts, process: Servers | None = None) -> Device:
    """A device with these costs. process: see `WholeBatches`."""
    if costs.rate is not None:
        return Shared(clock, costs.rate.table(costs.most), room=costs.most)
    return WholeBatches(clock, costs, process)


class Replica:
    """One device and its process. calls: those that are here. alive: whether anything that comes in is received."""

    def __init__(self, clock: Simulation, index: int, node: int, costs: DeviceCosts, cores: Shared | None) -> None:
        self.index, self.node = index, node
        self.process = Servers(clock, 1, cores)
        # On a machine whose cores all share, a replica has one thread and one interpreter lock.
        self.device = device_of(clock, costs, None if cores is None else self.process)
        self.calls: dict[int, Any] = {}
        self.alive = True
        self.lives = 0

    def die(self) -> list[Any]:
        """The process is killed; the calls that were there."""
        lost = list(self.calls.values())
        self.calls.clear()
        self.device.clear()
        self.process.clear()
        self.alive = False
        self.lives += 1
        return lost
