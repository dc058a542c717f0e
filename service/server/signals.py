"""The signals that stop the service, from the first moment of its process to the last.

A thread receives them, through the descriptor that the interpreter writes every signal's number to. So the second of
two is not lost where they come within a millisecond, and no stalled event loop or long import delays them.
"""

import functools
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Until `hand_over` a signal ends the process at once, with exit code 0: nothing has been admitted yet."""

    def __init__(self) -> None:
        self._on_signal: Callable[[int], None] | None = None
        self._lock = threading.Lock()

    def install(self) -> None:
        """Receive the signals from now on; to be called in the main thread.

        SIGHUP stays ignored where it is, as nohup asks for.
        """
        ours, the_interpreters = socket.socketpair()
        the_interpreters.setblocking(False)
        signal.set_wakeup_fd(the_interpreters.detach(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _received)
        threading.Thread(target=self._watch, args=(ours,), name="signals", daemon=True).start()

    def hand_over(self, on_signal: Callable[[int], None]) -> None:
        """From now on a signal calls this, in a thread, with its count: 1 for the first."""
        with self._lock:
            self._on_signal = on_signal

    def _watch(self, numbers: socket.socket) -> None:
        """The thread's whole life."""
        count = 0
        while received := numbers.recv(1):
            if received[0] not in STOP_SIGNALS:
                continue
            with self._lock:
                count += 1
                if self._on_signal is None:
                    os._exit(0)
            self._on_signal(count)


@functools.cache
def stop_signals() -> StopSignals:
    """Those of the process; the first call installs them."""
    signals = StopSignals()
    signals.install()
    return signals


def ignore_stop_signals() -> None:
    """For a process that somebody else ends, and for the end of this one: a signal must not change its exit code.

    To be called in the main thread. A terminal and some supervisors send a signal to the service's children too.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _received(_: int, __: FrameType | None) -> None:
    """Does nothing: a handler must be there for the interpreter to pass the number on."""
