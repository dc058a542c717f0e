"""The life of a worker process: one task at a time, within limits of CPU time and memory, at a lower priority.

It may be killed at any moment. Whatever it has not sent by then is lost with it, and nothing else is.
"""

import contextlib
import os
import signal
import socket
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynrefer.service.workers.image_task import DescribeInput, image_steps
from dynrefer.service.workers.parcels import ClosedError, ParcelError, Reader, send

if TYPE_CHECKING:
    from dynrefer.model import Preparation

SLICE_S = 0.05  # of a request's regions, before the pool is asked whether to go on


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """cpu_s: of decoding an image, and again of each slice of its regions; more of reading masks and polygons, by
    `DescribeInput.time_allowance`. memory_bytes: beyond the process itself.
    max_pixels: of an image. niceness: how far behind others it stands."""

    cpu_s: float
    max_pixels: int
    memory_bytes: int
    niceness: int


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is sent. first: the regions before this place are prepared already."""

    request: DescribeInput
    preparation: "Preparation[Any]"
    first: int


@dataclass(frozen=True, slots=True)
class Header:
    """The image's size, before it is decoded. The pool answers whether to go on."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Steps of `image_steps`. Unless it is the last one, the pool answers whether to go on."""

    steps: tuple[Any, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The task ended with an error that is to be answered."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Defect:
    """The task ended with an error that nobody foresaw."""

    trace: str


class _DroppedError(Exception):
    """The pool does not want the task to go on in this process now."""


def live(sock: socket.socket, limits: WorkerLimits) -> None:
    """Serve tasks until the socket is closed."""
    _apply(limits)
    reader = Reader(sock, modules=None)  # what the service sends is trusted
    with contextlib.suppress(ClosedError):
        while True:
            send(sock, _next_outcome(sock, reader, limits.cpu_s))


def _next_outcome(sock: socket.socket, reader: Reader, cpu_s: float) -> Slice | Failure | Defect:
    """Wait for a task and do it; its last message."""
    try:
        task = reader.receive()
    except ParcelError:  # such as a function that cannot be imported here
        return Defect(traceback.format_exc())
    return _outcome(sock, reader, task, cpu_s)


def _outcome(sock: socket.socket, reader: Reader, task: Task, cpu_s: float) -> Slice | Failure | Defect:
    """Do the task; its last message."""
    from dynrefer.model.errors import ImageTooCostlyError, ModelError
    from dynrefer.service.errors import ServiceError

    try:
        return _work(sock, reader, task, cpu_s)
    except _DroppedError:
        return Slice((), last=True)
    except (ModelError, ServiceError) as error:
        return Failure(error.with_traceback(None))
    except MemoryError:
        return Failure(ImageTooCostlyError("The image takes more memory to decode than this server allows."))
    except ClosedError:
        raise
    except Exception:
        # The border of the process: whatever it was, the service logs it and answers that it failed.
        return Defect(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _work(sock: socket.socket, reader: Reader, task: Task, cpu_s: float) -> Slice:
    def go_on(message: Header | Slice) -> None:
        send(sock, message)
        if not reader.receive():
            raise _DroppedError
        if isinstance(message, Slice):  # a header is part of the decoding that it precedes
            _limit_cpu(cpu_s)

    _limit_cpu(cpu_s * task.request.time_allowance)
    until = time.monotonic() + SLICE_S
    collected: list[Any] = []
    for step in image_steps(task.request, task.preparation, task.first, lambda *size: go_on(Header(*size))):
        if collected and time.monotonic() >= until:
            go_on(Slice(tuple(collected), last=False))
            collected.clear()
            until = time.monotonic() + SLICE_S
        collected.append(step)
    return Slice(tuple(collected), last=True)


def _limit_cpu(seconds: float) -> None:
    """After so much CPU time from now the kernel ends the process, even inside a decoder."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _apply(limits: WorkerLimits) -> None:
    import resource  # not on Windows, where a service says so before it comes here

    from dynrefer.model import forbid_bombs

    forbid_bombs(limits.max_pixels)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.setpriority(os.PRIO_PROCESS, 0, limits.niceness)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.memory_bytes and (own := _address_space()):
        resource.setrlimit(resource.RLIMIT_AS, (own + limits.memory_bytes,) * 2)


def _address_space() -> int:
    """What this process has mapped, in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
