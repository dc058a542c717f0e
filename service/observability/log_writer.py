"""Standard error that never blocks: whoever writes hands lines to a thread, and lines that nobody reads are dropped.

A write to a pipe that nobody reads waits without end, be it the event loop's, a signal handler's or the last one before
the process ends. Here the writer thread alone waits.
"""

import atexit
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

WAITING_BYTES = 1 << 20  # of lines that wait to be written: some thousands; more are dropped
CHUNK_BYTES = 64 << 10  # handed to the system at once
LAST_LINES_S = 1.0  # how long the end of the process waits for its last lines to be taken


class LogWriter(io.TextIOBase):
    """A text stream in front of a file descriptor. Safe in every thread; a line is written whole or not at all.

    on_resumed: called in the writer's thread with the number of lines that were dropped, once one can be written again.
    """

    def __init__(self, descriptor: int, on_resumed: Callable[[int], None] = lambda _: None) -> None:
        self._descriptor = descriptor
        self._on_resumed = on_resumed
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._writing = False
        self._dropped = self._reported = 0
        self._begun = threading.local()  # a line that its thread has not ended yet
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="log", daemon=True).start()

    @property
    def dropped(self) -> int:
        """How many lines were dropped: they did not fit, or the descriptor refused them."""
        return self._dropped

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8, whatever the locale says: log lines carry labels and names in any script."""
        return "utf-8"

    def fileno(self) -> int:
        """The descriptor, for what writes below Python."""
        return self._descriptor

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Take the text's lines, or drop them where too much waits already. Never blocks, never raises OSError."""
        ended, newline, begun = (getattr(self._begun, "text", "") + text).rpartition("\n")
        self._begun.text = begun
        if newline:
            self._take(ended + newline)
        return len(text)

    def flush(self) -> None:
        """Take a line that has not been ended, such as a progress bar. Waits for nothing."""
        if begun := getattr(self._begun, "text", ""):
            self._begun.text = ""
            self._take(begun)

    def drain(self, seconds: float) -> bool:
        """Wait until all lines are written, for so long at most. Whether they are."""
        until = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._lines and not self._writing, max(0.0, until - time.monotonic())
            )

    def _take(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(data) > WAITING_BYTES:
                self._dropped += _lines_in(data)
                return
            self._lines.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    def _work(self) -> None:
        """The thread's whole life."""
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                self._writing = True
                chunk = self._next_chunk()
            missing = _write(self._descriptor, chunk)
            with self._changed:
                self._dropped += _lines_in(missing)
                resumed, to_report = not missing, self._dropped - self._reported
                if resumed:
                    self._reported = self._dropped
            if resumed and to_report:
                self._on_resumed(to_report)

    def _next_chunk(self) -> bytes:
        """The lines that wait, as many as are written at once, at least one."""
        taken = [self._lines.popleft()]
        size = len(taken[0])
        while self._lines and size + len(self._lines[0]) <= CHUNK_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        self._waiting_bytes -= size
        return b"".join(taken)


def replace_standard_error(on_resumed: Callable[[int], None]) -> LogWriter:
    """Let `sys.stderr` never block from now on; at the end of the process its last lines have LAST_LINES_S."""
    writer = sys.stderr = LogWriter(2, on_resumed)
    atexit.register(finish_standard_error)
    return writer


def finish_standard_error() -> None:
    """Give the last lines their time. What is printed afterwards is written at once, or lost where it would block."""
    writer = sys.stderr
    if not isinstance(writer, LogWriter):
        return
    writer.flush()
    if not writer.drain(LAST_LINES_S):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = sys.__stderr__


def _write(descriptor: int, data: bytes) -> bytes:
    """Write all of it, however long that takes. Returns what the system refused: a closed pipe, a full disk."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever shares the pipe or the terminal has made it non-blocking
            select.select([], [descriptor], [])
        except OSError:
            return data
    return data


def _lines_in(data: bytes) -> int:
    """How many lines, one that is not ended included."""
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
