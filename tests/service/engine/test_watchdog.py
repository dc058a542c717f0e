"""The watchdog of a thread whose heartbeat the test sets."""

import threading
import time

from dynrefer.service.engine.watchdog import Watchdog
from tests.service.engine.conftest import WAIT_S

STALL_S = 0.04


class Heart:
    """Stands for the batcher. silent_s: since the last heartbeat."""

    def __init__(self) -> None:
        self.silent_s = 0.0
        self.running_ids = "mine"
        self.calls: list[str] = []

    def suspend(self) -> None:
        self.calls.append("suspend")

    def resume(self) -> None:
        self.calls.append("resume")

    def await_calls(self, *calls: str) -> None:
        until = time.monotonic() + WAIT_S
        while self.calls != list(calls):
            assert time.monotonic() < until, self.calls
            time.sleep(0.002)


def watched(heart: Heart, stop: threading.Event) -> tuple[Watchdog, threading.Thread, list[bool]]:
    """The watchdog, the thread that it watches, and what it finds in the end."""
    watchdog, device = Watchdog(heart, STALL_S, grace_s=1.0), threading.Thread(target=stop.wait)  # type: ignore[arg-type]
    found: list[bool] = []
    device.start()
    watcher = threading.Thread(target=lambda: found.append(watchdog.watch(device)))
    watcher.start()
    return watchdog, watcher, found


def test_a_silent_batch_closes_the_queue_until_its_next_heartbeat() -> None:
    heart, stop = Heart(), threading.Event()
    watchdog, watcher, found = watched(heart, stop)
    heart.silent_s = STALL_S * 2
    heart.await_calls("suspend")
    assert watchdog.stuck
    heart.silent_s = 0.0
    heart.await_calls("suspend", "resume")
    assert not watchdog.stuck
    stop.set()
    watcher.join(WAIT_S)
    assert found == [True]


def test_a_batch_that_is_silent_for_too_long_is_given_up() -> None:
    heart, stop = Heart(), threading.Event()
    _, watcher, found = watched(heart, stop)
    heart.silent_s = STALL_S + 1.5
    watcher.join(WAIT_S)
    assert found == [False]
    stop.set()
