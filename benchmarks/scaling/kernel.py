"""The clock, and the three things that queues are made of: work that shares a rate, servers with a queue, a line.

Everything is exact: no time steps. Times are in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

Call = Callable[..., None]
TINY = 1e-12


class Simulation:
    """now: the time. What happens at the same time happens in the order in which it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Call, tuple[Any, ...]]] = []
        self._numbers = count()

    def at(self, time: float, call: Call, *arguments: Any) -> None:
        """Call something at a time that is not over yet."""
        heappush(self._events, (time, next(self._numbers), call, arguments))

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen up to a time, or until nothing is left."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, call, arguments = heappop(events)
            call(*arguments)


class Shared:
    """Work of jobs that share one rate equally: n units there at a time are served with rate(n) altogether.

    rate: n -> units of work per second. A machine of c cores is rate(n) = min(n, c), with work in core-seconds; a GPU
    whose regions join and leave at any time is its measured regions per second with n in flight, with one unit of work
    per region. room: the most units at a time; the rest wait in order.

    Since all units get the same share, what one has got since the beginning (`_got`) orders their ends.
    """

    def __init__(self, clock: Simulation, rate: Callable[[int], float], room: int = 1 << 60) -> None:
        self.clock, self.rate, self.room = clock, rate, room
        self.inside = 0
        self.busy_s = 0.0  # for as long as there is something inside
        self.done = 0.0  # units of work
        self.waiting = 0  # units without a place
        self._queue: deque[tuple[int, float, Call, tuple[Any, ...]]] = deque()
        self._ends: list[tuple[float, int, int, float, Call, tuple[Any, ...]]] = []
        self._got = self._since = 0.0
        self._numbers = count()
        self._version = 0

    def add(self, units: int, work: float, call: Call, *arguments: Any) -> None:
        """So many units of so much work each; the call comes for those that end together, with their number last."""
        self._queue.append((units, work, call, arguments))
        self.waiting += units
        self._advance()
        self._let_in()

    def clear(self) -> None:
        """Forget everything, as a process does that is killed."""
        self._advance()
        self._queue.clear()
        self._ends.clear()
        self.inside = self.waiting = 0
        self._version += 1

    def _advance(self) -> None:
        now, inside = self.clock.now, self.inside
        if inside:
            passed = now - self._since
            rate = self.rate(inside)
            self._got += passed * rate / inside
            self.busy_s += passed
            self.done += passed * rate
        self._since = now

    def _let_in(self) -> None:
        queue = self._queue
        while queue and (free := self.room - self.inside) > 0:
            units, work, call, arguments = queue.popleft()
            if units > free:
                queue.appendleft((units - free, work, call, arguments))
                units = free
            self.inside += units
            self.waiting -= units
            heappush(self._ends, (self._got + work, next(self._numbers), units, work, call, arguments))
        self._plan()

    def _plan(self) -> None:
        self._version += 1
        if self._ends:
            left = self._ends[0][0] - self._got
            seconds = max(0.0, left) * self.inside / self.rate(self.inside)
            self.clock.at(self.clock.now + seconds, self._end, self._version)

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        ended = []
        limit = self._got + TINY + abs(self._got) * TINY
        while self._ends and self._ends[0][0] <= limit:
            _, _, units, _, call, arguments = heappop(self._ends)
            self.inside -= units
            ended.append((call, arguments, units))
        self._let_in()
        for call, arguments, units in ended:
            call(*arguments, units)


class Servers:
    """A queue in front of so many servers, first come, first served. cores: the machine on which they compute; None:
    each has a core of its own."""

    def __init__(self, clock: Simulation, number: int, cores: Shared | None = None) -> None:
        self.clock, self.number, self.cores = clock, number, cores
        self.busy = 0
        self.done_s = 0.0  # of work
        self.queue: deque[tuple[float, Call, tuple[Any, ...]]] = deque()
        self._life = 0

    def add(self, work_s: float, call: Call, *arguments: Any) -> None:
        """Work of so many seconds on a core of its own; the call comes when it is done."""
        if self.busy < self.number:
            self._begin(work_s, call, arguments)
        else:
            self.queue.append((work_s, call, arguments))

    def clear(self) -> None:
        """Forget everything, as a process does that is killed."""
        self.queue.clear()
        self.busy = 0
        self._life += 1

    def _begin(self, work_s: float, call: Call, arguments: tuple[Any, ...]) -> None:
        self.busy += 1
        self.done_s += work_s
        if self.cores is None:
            self.clock.at(self.clock.now + work_s, self._end, self._life, call, arguments, 1)
        else:
            self.cores.add(1, work_s, self._end, self._life, call, arguments)

    def _end(self, life: int, call: Call, arguments: tuple[Any, ...], _: int) -> None:
        if life != self._life:
            return
        self.busy -= 1
        if self.queue:
            self._begin(*self.queue.popleft())
        call(*arguments)


class Line:
    """What passes one after another at a fixed rate: bytes through a network interface in one direction, or seconds of
    work through one server, where nobody has to be called in between."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self.passed = 0.0
        self._free_at = 0.0

    def send(self, size: float, time: float) -> float:
        """When so much, handed over at a time, has passed."""
        self._free_at = max(self._free_at, time) + size / self.per_s
        self.passed += size
        return self._free_at
