"""What the routes talk to: it admits a request, has its image prepared, its regions run and its answer finished.

Image work and `prepare_each` run in a small pool of worker threads (`workers.py`), parsing and `finish` in another, so
that neither waits behind a backlog of images; the event loop only waits. The device has a thread of its own
(`device.py`).
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from dynrefer.model import ModelCard
from dynrefer.model.errors import DeviceMemoryError, ModelError
from dynrefer.service.engine.batch_errors import BatcherClosed, DeadlineExceeded, QueueFull
from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.engine.device_thread import Device, Predictor, PreparedRegion
from dynrefer.service.engine.image_work import Ask, Decode, ImageWorkers
from dynrefer.service.engine.results import DescribeResult, finish_regions, total_stages
from dynrefer.service.errors import DeadlineError, QueueFullError, UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings

Result = TypeVar("Result")

REFUSALS = {
    "queue_full": "The queue is full; try again later.",
    "key_share": "Too many regions of this key are waiting; try again later.",
}


class Phase(Enum):
    """Where the engine is in its life."""

    LOADING = "loading its model"
    READY = "ready"
    STARVED = "waiting for its device to have memory again"
    STUCK = "waiting for its device to answer again"
    DRAINING = "shutting down"
    LOST = "without its device"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. key: the name of the key, if any. deadline: on the monotonic clock."""

    key: str | None
    deadline: float


class Engine:
    """load: gives the predictor; called once, in the device thread."""

    def __init__(self, settings: Settings, load: Callable[[], Predictor], metrics: Metrics) -> None:
        self._metrics = metrics
        limits = Limits(
            queue_regions=settings.max_queue_regions,
            batch_regions=settings.max_batch_regions,
            batch_views=settings.max_batch_views,
            batch_wait_s=settings.batch_wait_ms / 1e3,
            key_regions=settings.key_regions,
        )
        self._batcher: Batcher[PreparedRegion, Any] = Batcher(
            limits, lambda region: region.num_views, DeviceMemoryError
        )
        self._device = Device(load, self._batcher, metrics, settings.device_stall_s, settings.device_grace_s)
        self._workers = ImageWorkers(settings.worker_threads, self._batcher, metrics)
        self._clerks = ThreadPoolExecutor(1, thread_name_prefix="clerk")
        self._draining = False
        self._describing = 0  # requests under way; touched by the event loop alone
        metrics.watch_caches(self._device.cache_counts)
        metrics.watch_queue(lambda: float(self._batcher.waiting), lambda: float(self._batcher.cap))

    @property
    def phase(self) -> Phase:
        """READY means loaded, warm, device alive and well, and not draining."""
        device = self._device
        if self._draining:
            return Phase.DRAINING
        if device.lost or not device.alive:
            return Phase.LOST
        if device.predictor is None:
            return Phase.LOADING
        if device.stuck:
            return Phase.STUCK
        return Phase.STARVED if device.starved else Phase.READY

    @property
    def failure(self) -> ModelError | None:
        """Why the model could not be loaded."""
        return self._device.failure

    @property
    def lost(self) -> bool:
        """Whether the device ended unasked or was given up."""
        return self._device.lost

    @property
    def card(self) -> ModelCard:
        """What is known about the loaded model. Raises UnavailableError while there is none."""
        if self._device.predictor is None:
            raise self._unavailable()
        return self._device.predictor.card

    def start(self, on_loss: Callable[[], None] = lambda: None) -> None:
        """Begin loading; `phase` tells when it is done. on_loss: called in a thread when the device is given up."""
        self._device.on_loss = on_loss
        self._device.start()

    def begin_drain(self) -> None:
        """Not ready from now on and nothing new is admitted; what is admitted goes on. Fit for a signal."""
        self._draining = True

    async def stop(self, grace_s: float) -> None:
        """Drain, then end the threads. What has not run within the grace time is given up."""
        self.begin_drain()
        self._batcher.close()
        until = time.monotonic() + grace_s
        while self._describing and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self._workers.stop()
        self._clerks.shutdown(wait=False, cancel_futures=True)

    async def parse(self, task: Callable[[], Result]) -> Result:
        """Run CPU work that is no image's in a thread: the reading of requests and the writing of answers."""
        return await asyncio.get_running_loop().run_in_executor(self._clerks, task)

    def check_ready(self) -> Predictor:
        """The predictor. Raises UnavailableError, and counts it, unless the phase is READY."""
        predictor = self._device.predictor
        if predictor is None or self.phase is not Phase.READY:
            self._metrics.rejected.labels("unavailable").inc()
            raise self._unavailable()
        return predictor

    def check_room(self, caller: Caller) -> None:
        """Refuse, before the body is parsed, what would be refused afterwards. Raises as `describe` does."""
        self.check_ready()
        with self._refusals(), self._batcher.admit(1, caller.key, caller.deadline):
            pass

    async def describe(
        self, regions: int, decode: Decode, ask: Ask, write: Callable[[DescribeResult], Result], caller: Caller
    ) -> Result:
        """Describe the regions of one image; cancelling it takes its regions out of the queue.

        regions: how many `ask` will give. decode: gives the upright image. ask: (width, height) -> one query
        per region. write: makes the answer, in a thread. Raises QueueFullError or UnavailableError before any
        work is done, DeadlineError, QueryError, RegionFailedError.
        """
        predictor = self.check_ready()
        self._describing += 1
        try:
            with self._refusals():
                return await self._describe(predictor, regions, decode, ask, write, caller)
        finally:
            self._describing -= 1

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """The batcher's refusals in the service's words."""
        try:
            yield
        except QueueFull as error:
            self._metrics.rejected.labels(error.reason).inc()
            raise QueueFullError(REFUSALS[error.reason], error.retry_after_s) from None
        except BatcherClosed:
            raise self._unavailable() from None
        except DeadlineExceeded:
            raise DeadlineError("The deadline passed while the request was queued.") from None

    async def _describe(
        self,
        predictor: Predictor,
        regions: int,
        decode: Decode,
        ask: Ask,
        write: Callable[[DescribeResult], Result],
        caller: Caller,
    ) -> Result:
        with self._batcher.admit(regions, caller.key, caller.deadline) as ticket:
            source = await self._workers.prepare(predictor, regions, decode, ask)
            submitted_ns = time.time_ns()
            outcomes = await asyncio.wrap_future(ticket.submit(source.prepared))

        def finish() -> Result:
            found = finish_regions(predictor, source.prepared, outcomes)
            timings_ms = {"decode": source.decode_ms, **total_stages(found, outcomes)}
            self._metrics.observe_stages(timings_ms)
            described = DescribeResult(
                source.width,
                source.height,
                found,
                queue_ms=tuple(outcome.queue_ms for outcome in outcomes),
                batches=tuple(outcome.batch for outcome in outcomes),
                timings_ms=timings_ms,
                began_ns=source.began_ns,
                submitted_ns=submitted_ns,
            )
            return write(described)

        return await self.parse(finish)

    def _unavailable(self) -> UnavailableError:
        phase = self.phase
        # Ready and yet refused: the device ended between two looks.
        return UnavailableError(f"The service is {(Phase.LOST if phase is Phase.READY else phase).value}.")
