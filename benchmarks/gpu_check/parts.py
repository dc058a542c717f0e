"""The parts of the check, each in a process of its own: `python -m benchmarks.gpu_check.parts PART DEVICE PRESET
FOLDER` writes one figure per line, as JSON."""

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.gpu_check.figures import Figure
from dynrefer.service import set_thread_environment

ALL_S = 720.0  # of all parts together
# Not run unless they are named: the one needs Ray, the other 17 GB of disk and half the time of all others.
UNASKED = ("scale_out", "ferret")
# Part -> seconds that it may take at most.
BUDGETS = {
    "agreement": 75.0,
    "capabilities": 90.0,
    "speed": 150.0,
    "curve": 110.0,
    "service": 220.0,
    "faults": 60.0,
    "embedded": 60.0,
    "peers": 120.0,
    "scale_out": 300.0,
    "kept_memory": 120.0,
    "ferret": 240.0,
}


@dataclass(frozen=True)
class Ended:
    """why: empty where a part came to its end by itself."""

    why: str = ""


def run_part(name: str, arguments: tuple[str, str, str], seconds: float) -> Iterator[Figure | Ended]:
    """Its figures as they come, then how it ended. arguments: device, preset, folder."""
    line = [sys.executable, "-m", "benchmarks.gpu_check.parts", name, *arguments]
    # A session of its own, so that whatever it started ends with it.
    process = subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    until = time.monotonic() + seconds
    try:
        for text in _lines(process.stdout, until):
            yield Figure(**json.loads(text))
        if time.monotonic() >= until:
            yield Ended(f"cut after {seconds:.0f} s")
        else:
            code = process.wait(timeout=max(1.0, until - time.monotonic()))
            yield Ended(f"ended with code {code}" if code else "")
    except subprocess.TimeoutExpired:
        yield Ended(f"cut after {seconds:.0f} s")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _lines(stream: IO[bytes], until: float) -> Iterator[bytes]:
    """Whole lines until the stream's end or a time of the monotonic clock."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if not selector.select(left):
                return
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                return
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole


def main(arguments: list[str]) -> None:
    """The command."""
    name, device, preset, folder = arguments
    # Figures go to the pipe alone: libraries may print.
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as figures:
        os.dup2(2, 1)
        set_thread_environment()  # as the service does, before NumPy and torch are loaded
        from benchmarks.gpu_check.conditions import Conditions

        if name not in BUDGETS:
            raise SystemExit(f"{name} is no part of the check; use {', '.join(BUDGETS)}.")
        module = importlib.import_module(f"benchmarks.gpu_check.{name}")
        measure: Callable[[Conditions], Iterator[Figure]] = module.measure
        for figure in measure(Conditions(device, preset, Path(folder))):
            print(json.dumps(asdict(figure)), file=figures)


if __name__ == "__main__":
    main(sys.argv[1:])
