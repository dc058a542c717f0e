"""Imported by every Python process of a service whose clock libfaketime moves (see ../faults.py).

libfaketime 0.9.10 answers EINVAL to a sleep until a time of the monotonic clock while it leaves that clock alone, and
CPython's `time.sleep` is such a one. `select` waits as long, by a call that libfaketime passes on.
"""

import select
import time


def _sleep(seconds: float, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select((), (), (), seconds)


time.sleep = _sleep
