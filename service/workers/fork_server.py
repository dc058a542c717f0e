"""Where worker processes come from: one small process that has imported what they need, and forks.

A fork of it takes milliseconds and shares its memory, where a new interpreter takes a third of a second; the serving
process itself has threads and a device and must not be forked. It waits for its children only when it is told to:
until then the number of a process that has ended is not given to another one, so that a kill can hit no stranger.

The serving process talks to it through a socket, one request at a time: `Fork` with a socket for the worker, `Reap`.
"""

import asyncio
import contextlib
import gc
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from dynrefer.service.workers.parcels import ClosedError, ParcelError, Reader, pack, send, send_packed
from dynrefer.service.workers.worker import WorkerLimits, live

# The interpreter is started with the import path of the serving process, so that both run the same files.
START = "import sys; sys.path[:] = sys.argv[2:]; from dynrefer.service.workers import fork_server as f; f.main()"
PRELOADED = (
    "dynrefer.model.mask_files",
    "dynrefer.model.polygons",
    "dynrefer.model.preparation",
    "dynrefer.model.segmentation",
    "dynrefer.model.images",
    "dynrefer.service.errors",
    "dynrefer.service.inputs.region_queries",
    *(f"PIL.{kind}ImagePlugin" for kind in ("Bmp", "Gif", "Jpeg", "Png", "Tiff")),
    "PIL._avif",
    "PIL._webp",
    "pi_heif",
)
# What an interpreter and its libraries are told by the environment; nothing else of it reaches processes that decode
# strangers' images: keys, passwords and tokens of the service, or of anything that runs beside it.
PASSED_ON = re.compile(
    r"PATH|HOME|TMPDIR|TZ|LANG|LANGUAGE|VIRTUAL_ENV|PYTHON\w*|FAKETIME\w*|(LC|LD|DYLD|OMP|OPENBLAS|MKL|MALLOC|COVERAGE)_\w+"
)
OWN_MODULES = ("dynrefer.service.workers.fork_server",)
PR_SET_PDEATHSIG = 1  # Linux's prctl


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a worker; its socket goes along as a descriptor. Answered by `Forked`."""

    limits: WorkerLimits


@dataclass(frozen=True, slots=True)
class Forked:
    """process: its number; 0 where the system refused."""

    process: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reap:
    """Wait for a worker that has ended or was killed. Answered by `Reaped`."""

    process: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """status: as of os.wait."""

    status: int


class WorkersUnavailable(Exception):
    """No worker process can be had now; one clause that says why."""


def main() -> NoReturn:
    """The fork server's whole life; its socket's descriptor is the first argument."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent()
    # A supervisor that signals the whole group must not end the workers while the service still answers what it has
    # admitted; it kills them itself.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    _preload()
    gc.collect()
    gc.freeze()  # the children write nothing into what they share, not even marks of the garbage collector
    reader = Reader(sock, modules=None)
    with contextlib.suppress(ClosedError):
        send(sock, Forked(os.getpid()))  # ready
        while True:
            request = reader.receive()
            send(sock, _forked(sock, reader, request) if isinstance(request, Fork) else _reaped(request.process))
    os._exit(0)


def _forked(sock: socket.socket, reader: Reader, request: Fork) -> Forked:
    theirs = reader.take_file()
    try:
        process = os.fork()
    except OSError as error:
        os.close(theirs)
        return Forked(0, os.strerror(error.errno or 0))
    if process == 0:
        try:
            sock.close()
            die_with_parent()
            live(socket.socket(fileno=theirs), request.limits)
        finally:
            os._exit(0)
    os.close(theirs)
    return Forked(process)


def _reaped(process: int) -> Reaped:
    try:
        return Reaped(os.waitpid(process, 0)[1])
    except ChildProcessError:
        return Reaped(0)


def _preload() -> None:
    """Import what tasks need, so that no worker has to: the decoders of all accepted formats too."""
    for module in PRELOADED:
        with contextlib.suppress(ImportError):  # a decoder that this installation is without
            importlib.import_module(module)


def die_with_parent() -> None:
    """Have the kernel kill this process once the one that made it ends, however that happens. Linux alone has this;
    elsewhere a process ends when it next reads its socket."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ForkServer:
    """The serving process's side. For use on one event loop."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._reader: Reader | None = None
        self._lock = asyncio.Lock()
        self._ready = False
        self._exchanges: set[asyncio.Future[Any]] = set()
        self._stopped = False

    def start(self) -> None:
        """Begin to start the process; the first request waits until it is ready. Raises WorkersUnavailable."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", START, str(theirs.fileno()), *sys.path]
        # OpenBLAS would start threads, and each thread's own heap would count against the limit of memory.
        passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        environment = {**passed_on, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        null = subprocess.DEVNULL
        try:
            # A session of its own: an interrupt from the terminal is for the serving process alone.
            self._process = subprocess.Popen(
                command,
                stdin=null,
                stdout=null,
                stderr=null,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise WorkersUnavailable(os.strerror(error.errno or 0)) from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._sock, self._reader, self._ready = ours, Reader(ours, OWN_MODULES), False

    async def fork(self, limits: WorkerLimits) -> tuple[int, socket.socket]:
        """A new worker: its process and our end of its socket. Raises WorkersUnavailable."""
        ours, theirs = socket.socketpair()
        try:
            forked = await self._ask(Fork(limits), theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        if not forked.process:
            ours.close()
            raise WorkersUnavailable(forked.reason)
        ours.setblocking(False)
        return forked.process, ours

    async def reap(self, process: int) -> Reaped:
        """What became of a worker that has ended or was killed."""
        try:
            found: Reaped = await self._ask(Reap(process))
        except WorkersUnavailable:
            return Reaped(0)
        return found

    async def _ask(self, request: Fork | Reap, file: int | None = None) -> Any:
        """One request and its answer; shielded, for an answer that nobody waits for must still be read."""
        exchange = asyncio.ensure_future(self._exchange(request, file))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        return await asyncio.shield(exchange)

    async def _exchange(self, request: Fork | Reap, file: int | None) -> Any:
        own = None if file is None else os.dup(file)  # the caller may be cancelled and close its own
        try:
            async with self._lock:
                if self._stopped:
                    raise WorkersUnavailable("the pool was stopped")
                if self._sock is None or self._reader is None:
                    if isinstance(request, Reap):
                        return Reaped(0)
                    self.start()
                assert self._sock is not None and self._reader is not None
                if not self._ready:
                    await receive(self._sock, self._reader)
                    self._ready = True
                message, none = pack(request)
                assert none is None
                send_packed(self._sock, message, own)
                return await receive(self._sock, self._reader)
        except (ClosedError, ParcelError, BlockingIOError):
            self._forget()
            raise WorkersUnavailable("the process that makes them ended") from None
        finally:
            if own is not None:
                os.close(own)

    def _forget(self) -> None:
        """End what is left of the process; its workers end with it."""
        if self._reader is not None:
            self._reader.close()
        if self._sock is not None:
            self._sock.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._sock = self._reader = self._process = None

    async def stop(self) -> None:
        """End the process and, with it, every worker; requests that wait for it raise WorkersUnavailable."""
        self._stopped = True
        if self._sock is not None:
            # Not closed while a request waits for it: the event loop would keep watching the descriptor.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        self._forget()


async def receive(sock: socket.socket, reader: Reader) -> Any:
    """The next message on a socket that does not block. Raises ClosedError, ParcelError."""
    while (found := reader.next()) is None:
        try:
            reader.fill()
        except BlockingIOError:
            await _readable(sock)
    return found[0]


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()
    loop.add_reader(sock.fileno(), _wake, waiting)
    try:
        await waiting
    finally:
        loop.remove_reader(sock.fileno())


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def kill(processes: Sequence[int]) -> None:
    """Kill workers that have not been reaped yet."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
