"""The pool of worker processes: whose image is worked on next, for how long, and what happens when that goes wrong.

There are two lanes, each of as many processes as the settings say. A task begins in the quick lane. It moves to the
long lane once it turns out to be long: its image has many pixels, or it has run for a whole turn. Where the long lane
is full it waits there for its turn, and where it was in the middle of something that cannot be interrupted, its process
is killed and it begins again. So no small image ever waits for more than one turn of each process of the quick lane,
whatever the others are; and no more large images are in memory than the long lane has processes. In both lanes keys
take turns, and within a key its requests.
"""

import asyncio
import glob
import logging
import math
import os
import pickle
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from dynrefer.model import Preparation
from dynrefer.model.errors import ImageTooCostlyError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.fair_queue import FairQueue
from dynrefer.service.engine.reservations import ExecutorClosed, Part, QueuedRequest, WorkItem
from dynrefer.service.errors import UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.workers.fork_server import ForkServer, WorkersUnavailable, kill, receive
from dynrefer.service.workers.image_task import Decoded, DescribeInput, PreparedImage, Region, take
from dynrefer.service.workers.parcels import ClosedError, ParcelError, Reader, pack
from dynrefer.service.workers.worker import Defect, Failure, Slice, Task, WorkerLimits

logger = logging.getLogger(__name__)

QUICK_PIXELS = 1 << 22  # images of more pixels are long from the start: some 60 ms of decoding
TURN_S = 0.2  # the longest turn in the quick lane, in CPU time
TURN_WALL_S = 2.0  # and on the clock, where the processor is taken by others
THREADED_PACK_BYTES = 1 << 20  # a larger image is copied to shared memory in a thread: not on the event loop
NICENESS = 5  # of workers: the event loop and the model come first, and yet no image is starved beyond its deadline
BYTES_PER_PIXEL = 16  # of an image at the peak of its decoding, with some room
OWN_BYTES = 256 << 20  # address space beside the image: the encoded file, views, the decoders' tables
TRIES = 2  # of an image whose process crashes
BESIDE_A_CPU = 2  # processes of a lane where the model computes on the same cores
CORES_OF_THE_SERVICE, MOST_PROCESSES = 2, 32  # beside a GPU: for the event loop and the device's thread

Result = TypeVar("Result")

# Whose records a worker may send.
RECORD_MODULES = (
    "dynrefer.service.workers.worker",
    "dynrefer.service.workers.image_task",
    "dynrefer.service.errors",
    "dynrefer.model.conversation",
    "dynrefer.model.conversing",
    "dynrefer.model.crops",
    "dynrefer.model.errors",
    "dynrefer.model.evidence.cutting",
    "dynrefer.model.finding",
    "dynrefer.model.images",
    "dynrefer.model.masks",
    "dynrefer.model.points",
    "dynrefer.model.preparation",
    "dynrefer.model.request_vocabulary",
    "dynrefer.model.segmentation",
    "dynrefer.model.tasks.caption",
    "dynrefer.model.explanation",
    "dynrefer.model.types",
)


class Lane(Enum):
    """The two lanes."""

    QUICK = "quick"
    LONG = "long"


class _CrashError(Exception):
    """The worker ended in the middle of its task."""


class _TooLongError(Exception):
    """The task has had its turn in the quick lane, and the long lane is full."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """processes: of each lane. cpu_s, wall_s: of decoding an image. max_pixels: of an image."""

    processes: int
    cpu_s: float
    wall_s: float
    max_pixels: int
    memory_bytes: int = 0

    @property
    def worker(self) -> WorkerLimits:
        memory = self.memory_bytes or BYTES_PER_PIXEL * self.max_pixels + OWN_BYTES
        return WorkerLimits(self.cpu_s, self.max_pixels, memory, NICENESS)


@dataclass(eq=False, slots=True)
class _Worker:
    """A process that has been forked."""

    process: int
    sock: socket.socket
    reader: Reader

    def close(self) -> None:
        """Close our end; only where nobody waits for a message, for the event loop would keep watching it."""
        self.reader.close()
        self.sock.close()

    def cpu_s(self) -> float:
        """The CPU time that the process has used so far; NaN where the system does not say."""
        try:
            return time.clock_gettime((~self.process << 3) | 2)  # Linux: the clock of all threads of another process
        except (OSError, OverflowError):
            return math.nan

    async def send(self, message: Any) -> None:
        """Send a message. Raises _CrashError where the process has ended."""
        data, file = pack(message)
        await self.send_packed(data, file)

    async def send_packed(self, data: bytes, file: int | None) -> None:
        """The same of what is packed already; closes the file."""
        try:
            sent = 0 if file is None else socket.send_fds(self.sock, [data], [file])
            if sent < len(data):
                await asyncio.get_running_loop().sock_sendall(self.sock, memoryview(data)[sent:])
        except OSError:
            raise _CrashError from None
        finally:
            if file is not None:
                os.close(file)

    async def receive(self) -> Any:
        """The next message. Raises _CrashError where the process has ended, or has sent what it may not."""
        try:
            return await receive(self.sock, self.reader)
        except ClosedError:
            raise _CrashError from None
        except ParcelError as error:
            logger.error("a worker process was stopped: %s", error)
            raise _CrashError from None


@dataclass(eq=False, slots=True)
class _Job:
    """A task on its way through the lanes. turn: done once it has a place. first: regions that are prepared already."""

    request: DescribeInput
    image: PreparedImage[Any]
    preparation: Preparation[Any]
    lane: Lane = Lane.QUICK
    first: int = 0
    turn: "asyncio.Future[None] | None" = None


class _Lanes:
    """The places in both lanes and the queues before them. For one event loop."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside: dict[Lane, set[_Job]] = {lane: set() for lane in Lane}
        self._queues: dict[Lane, FairQueue[_Job, None]] = {lane: FairQueue() for lane in Lane}

    @property
    def waiting(self) -> int:
        """How many tasks wait for a place."""
        return sum(queue.next_size for queue in self._queues.values())

    @asynccontextmanager
    async def place(self, job: _Job, context: RequestContext) -> AsyncIterator[None]:
        """Wait for a place in the job's lane, and keep it."""
        job.turn = asyncio.get_running_loop().create_future()
        queued: QueuedRequest[_Job, None] = QueuedRequest(0, context.caller, context.deadline, context.id)
        queue = self._queues[job.lane]
        queue.add([WorkItem(job, 1, 0, Part(queued, job.lane, 1, time.monotonic()))])
        self._admit()
        try:
            await job.turn
            yield
        finally:
            queue.remove(queued)
            for inside in self._inside.values():
                inside.discard(job)
            self._admit()

    def move_to_long(self, job: _Job) -> bool:
        """Let a task go on in the long lane, if there is a place that nobody waits for. Whether it is there now."""
        if job.lane is Lane.LONG:
            return True
        if self._queues[Lane.LONG] or len(self._inside[Lane.LONG]) >= self._places:
            return False
        job.lane = Lane.LONG
        self._inside[Lane.QUICK].discard(job)
        self._inside[Lane.LONG].add(job)
        self._admit()
        return True

    def _admit(self) -> None:
        for lane, queue in self._queues.items():
            while queue and len(self._inside[lane]) < self._places:
                job = queue.take(1, 1)[0].item
                if job.turn is not None and not job.turn.done():
                    self._inside[lane].add(job)
                    job.turn.set_result(None)


def default_processes(device: str, has_gpu: Callable[[], bool] | None = None) -> int:
    """How many processes suit a device (auto, cpu, cuda, cuda:N) where nothing is set.

    They are started while the model loads, before torch could say what "auto" is. has_gpu: whether there is one.
    """
    seen = _has_gpu if has_gpu is None else has_gpu
    if device == "cpu" or not seen():
        return BESIDE_A_CPU
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(BESIDE_A_CPU, min(cores - CORES_OF_THE_SERVICE, MOST_PROCESSES))


def _has_gpu() -> bool:
    return bool(glob.glob("/dev/nvidia[0-9]*"))


class WorkerPool:
    """Prepares images in worker processes. For one event loop, on which it is started."""

    def __init__(self, limits: PoolLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._lanes = _Lanes(limits.processes)
        self._server = ForkServer()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._background: set[asyncio.Future[Any]] = set()
        self._stopped = False
        metrics.watch_image_workers(lambda: float(len(self._all)), lambda: float(self._lanes.waiting))

    def start(self) -> None:
        """Begin to start the processes, while the model loads. What fails here is tried again by the first request."""
        try:
            self._server.start()
        except WorkersUnavailable as error:
            logger.error("worker processes cannot be started: %s", error)
            return
        for _ in range(self._limits.processes):
            self._in_background(self._server.fork(self._limits.worker)).add_done_callback(self._keep)

    async def stop(self) -> None:
        """Kill the processes. A task that waits for one of them raises ExecutorClosed."""
        self._stopped = True
        kill([worker.process for worker in self._all])
        for worker in self._idle:
            worker.close()
        self._all.clear()
        self._idle.clear()
        await self._server.stop()

    async def prepare(
        self, preparation: "Preparation[Region]", request: DescribeInput, context: RequestContext
    ) -> PreparedImage[Region]:
        """Decode an image and prepare its regions; cancelling it kills the process that works on it.

        Raises what the functions of `request` raise, QueryError, ImageTooCostlyError, UnavailableError where no
        process can be had, and ExecutorClosed where the pool was stopped before the end.
        """
        image: PreparedImage[Region] = PreparedImage(request.num_regions)
        job = _Job(request, image, preparation)
        crashes, failure = 0, None
        while failure is None and (image.info is None or image.left):
            if self._stopped:
                raise ExecutorClosed
            try:
                async with self._lanes.place(job, context), self._worker(job.request) as worker:
                    failure = await self._work(worker, job)
            except _TooLongError:
                job.lane = Lane.LONG
            except _CrashError:
                crashes += 1
                if crashes == TRIES:
                    failure = ImageTooCostlyError("The image cannot be decoded: it ends the process that tries.")
        if failure is not None:
            raise failure
        if image.info is not None:
            self._metrics.image_pixels.observe(image.info.width * image.info.height)
        return image

    async def _work(self, worker: _Worker, job: _Job) -> Exception | None:
        """One go of a task in a process, to its end or to where it has to wait for the long lane.

        Returns the error that the task ended with. Raises _CrashError, _TooLongError, and ImageTooCostlyError past
        the deadline; then the process has not ended the task.
        """
        await self._send_task(worker, job)
        wall_s = self._limits.wall_s * job.request.time_allowance
        go = _Go(time.monotonic(), worker.cpu_s(), time.monotonic() + wall_s)
        while True:
            message = await self._next(worker, job, go)
            if isinstance(message, Failure):
                return message.error
            if isinstance(message, Defect):
                return RuntimeError(f"image work failed in a worker process:\n{message.trace}")
            if isinstance(message, Slice):
                self._take(job, message, go)
                if message.last:
                    complete = job.image.info is not None and not job.image.left
                    return None if complete else RuntimeError("a worker process ended its task before its end")
                allowed = time.monotonic() - go.began < TURN_S or self._lanes.move_to_long(job)
            else:
                allowed = message.width * message.height <= QUICK_PIXELS or self._lanes.move_to_long(job)
            await worker.send(allowed)
            if not allowed:
                await self._next(worker, job, go)  # it confirms, and is free for another task
                job.lane = Lane.LONG
                return None

    async def _send_task(self, worker: _Worker, job: _Job) -> None:
        """The image goes along in shared memory."""
        worker.reader.trust((*RECORD_MODULES, type(job.preparation).__module__))
        shared: Any = pickle.PickleBuffer(job.request.image)
        task = Task(replace(job.request, image=shared), job.preparation, job.first)
        if len(job.request.image) < THREADED_PACK_BYTES:
            await worker.send(task)
        else:
            await worker.send_packed(*await asyncio.to_thread(pack, task))

    async def _next(self, worker: _Worker, job: _Job, go: "_Go") -> Any:
        """The next message, within the turn and the deadline. Raises as `_work` does."""
        while True:
            turn_s = TURN_S if job.lane is Lane.QUICK else math.inf
            left = min(turn_s, go.decode_until - time.monotonic())
            try:
                async with asyncio.timeout(None if left == math.inf else max(left, 0)):
                    return await worker.receive()
            except TimeoutError:
                now = time.monotonic()
                if now >= go.decode_until:
                    self._count("wall")
                    raise _too_costly(job.request) from None
                # Where others have the processor, a turn lasts longer on the clock.
                over = now - go.began >= TURN_WALL_S or not worker.cpu_s() - go.cpu_s < TURN_S
                if over and not self._lanes.move_to_long(job):
                    self._count("turn")
                    raise _TooLongError from None

    def _take(self, job: _Job, message: Slice, go: "_Go") -> None:
        for step in message.steps:
            take(job.image, step)
            if isinstance(step, Decoded):
                go.decode_until = math.inf  # what follows is our own work: slices, within the request's deadline
            else:
                job.first = step[0] + 1

    @asynccontextmanager
    async def _worker(self, request: DescribeInput) -> AsyncIterator[_Worker]:
        """A process for one go; killed unless that came to its end.

        Raises UnavailableError where none can be had; what was raised inside; ImageTooCostlyError where the process
        was ended by the limit of CPU time.
        """
        worker = await self._fresh()
        try:
            yield worker
        except _CrashError:
            if self._stopped:
                worker.close()
                raise ExecutorClosed from None
            if await self._end(worker) == signal.SIGPROF:
                self._count("cpu")
                raise _too_costly(request) from None
            self._count("crash")
            logger.warning("a worker process ended while it worked on an image")
            raise
        except BaseException as error:
            # It may be inside a decoder, and there is no other way to stop that.
            self._in_background(self._end(worker))
            if isinstance(error, asyncio.CancelledError):
                self._count("cancelled")
            raise
        if self._stopped or len(self._idle) >= 2 * self._limits.processes:
            self._in_background(self._end(worker))
        else:
            self._idle.append(worker)

    async def _fresh(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.reader.quiet():
                return worker
            self._in_background(self._end(worker))  # it has ended while it was idle
        for last in (False, True):
            making = self._in_background(self._server.fork(self._limits.worker))
            try:
                return self._registered(await asyncio.shield(making))
            except WorkersUnavailable as error:
                if self._stopped:
                    raise ExecutorClosed from None
                if last:
                    logger.error("no worker process can be had: %s", error)
            except asyncio.CancelledError:
                making.add_done_callback(self._keep)
                raise
        raise UnavailableError("The service has no process to decode images in; try again later.")

    def _registered(self, forked: tuple[int, socket.socket]) -> _Worker:
        process, sock = forked
        worker = _Worker(process, sock, Reader(sock, RECORD_MODULES))
        self._all.add(worker)
        if self._stopped:
            kill([process])
        return worker

    def _keep(self, making: "asyncio.Future[tuple[int, socket.socket]]") -> None:
        """A process that nobody waits for is there for the next task."""
        if not making.cancelled() and making.exception() is None:
            self._idle.append(self._registered(making.result()))

    async def _end(self, worker: _Worker) -> int:
        """Kill a process and wait for its end. Returns the signal that ended it, or 0."""
        if worker not in self._all:
            worker.close()
            return 0
        self._all.discard(worker)
        kill([worker.process])
        worker.close()
        reaped = await self._server.reap(worker.process)
        return os.WTERMSIG(reaped.status) if os.WIFSIGNALED(reaped.status) else 0

    def _in_background(self, work: "Coroutine[Any, Any, Result]") -> "asyncio.Future[Result]":
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _count(self, reason: str) -> None:
        self._metrics.image_worker_kills.labels(reason).inc()


@dataclass(slots=True)
class _Go:
    """began, decode_until: on the monotonic clock. cpu_s: of the process when it began."""

    began: float
    cpu_s: float
    decode_until: float


def _too_costly(request: DescribeInput) -> ImageTooCostlyError:
    if request.prompts:
        return ImageTooCostlyError(
            "The image and the masks and polygons on it take more time to read than this server allows; send fewer "
            "regions, or smaller ones, in a request."
        )
    return ImageTooCostlyError("The image takes more time to decode than this server allows.")
