"""A breaker in front of something outside that may fail, hang or be slow: while it does, nobody waits for it.

Closed, it lets calls through. It opens when they fail too often: three in a row, or more than one in ten for long.
Open, it lets nothing through until a pause is over; then one probe decides. A probe that fails doubles the pause, up
to a minute. The names are those of an electrical breaker: closed is on.
"""

import threading
import time
from collections.abc import Callable
from enum import Enum

MOST_FAILURES = 3.0
FORGIVEN = 0.1  # of a failure, by a call that succeeds
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class _State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class CircuitBreaker:
    """For any thread. It begins open, with its pause over: what is outside is not relied on before a probe succeeded.

    clock: seconds, in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._state = _State.OPEN
        self._failures = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._until = clock()

    @property
    def closed(self) -> bool:
        """Whether calls are let through."""
        return self._state is _State.CLOSED

    @property
    def pause_s(self) -> float:
        """How long the present pause is, or the next one."""
        return self._pause_s

    def may_probe(self) -> bool:
        """Whether the caller is to probe now, and then to say what came of it; true for one caller at a time."""
        with self._lock:
            if self._state is not _State.OPEN or self._clock() < self._until:
                return False
            self._state = _State.PROBING
            return True

    def succeeded(self) -> bool:
        """After a call, or a probe, that succeeded. Returns whether the breaker has closed with it."""
        with self._lock:
            if self._state is not _State.CLOSED:
                self._state = _State.CLOSED
                self._failures = MOST_FAILURES - 1  # not trusted yet: the next failure opens it again
                return True
            self._failures = max(0.0, self._failures - FORGIVEN)
            if not self._failures:
                self._pause_s = FIRST_PAUSE_S
            return False

    def failed(self) -> bool:
        """After one that failed. Returns whether the breaker has opened with it, or stays open after a probe."""
        with self._lock:
            self._failures += 1
            if self._state is _State.OPEN or (self._state is _State.CLOSED and self._failures < MOST_FAILURES):
                return False
            self._until = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._state = _State.OPEN
            return True
