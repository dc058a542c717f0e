"""Owns the predictor and the one device thread: load, warm up, describe, drain.

The device thread loads the model, warms it, and then serves the batcher until it is closed. Image work,
`prepare` and `finish` run in a small pool of worker threads; the event loop only waits.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from model import ModelCard, RegionDescription, RegionQuery
from model.errors import ModelError

from .batcher import Batcher, ClosedError, FullError, Limits, Outcome
from .errors import Flaw, QueueFullError, RegionFailedError, UnavailableError
from .metrics import Metrics
from .settings import Settings

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Result = TypeVar("Result")

# Stages that the regions of one batch go through together.
BATCH_STAGES = ("vision", "heads", "caption")


class PreparedRegion(Protocol):
    """A region ready for the device. num_views: how many view encodings it costs."""

    @property
    def num_views(self) -> int:
        """View encodings."""


class Predictor(Protocol):
    """What the service needs of `model.DynRefer`: three verbs, so that CPU work overlaps the device's."""

    @property
    def card(self) -> ModelCard:
        """What a client may know about the model."""

    def prepare(self, image: Pixels, queries: Sequence[RegionQuery]) -> Sequence[PreparedRegion]:
        """CPU, any thread. image: (H, W, 3) uint8 upright RGB. Raises QueryError with its index."""

    def run(self, regions: Sequence[Any]) -> Sequence[Any]:
        """Device thread only; outputs in order; regions of different requests and tasks may share a call."""

    def finish(self, region: Any, output: Any) -> RegionDescription:
        """CPU, any thread."""


class Phase(Enum):
    """Where the engine is in its life."""

    LOADING = "loading its model"
    READY = "ready"
    DRAINING = "shutting down"
    LOST = "without its device"


@dataclass(frozen=True, slots=True)
class Described:
    """A request's answer, before it has a schema. Sizes in pixels, times in milliseconds.

    queue_ms: per region. timings_ms: decode, views, queue, vision, heads, caption of the request as a whole.
    """

    width: int
    height: int
    regions: tuple[RegionDescription, ...]
    queue_ms: tuple[float, ...]
    timings_ms: Mapping[str, float]


class Engine:
    """load: gives the predictor; called once, in the device thread."""

    def __init__(self, settings: Settings, load: Callable[[], Predictor], metrics: Metrics) -> None:
        self._load = load
        self._metrics = metrics
        self._predictor: Predictor | None = None
        limits = Limits(
            queue_regions=settings.max_queue_regions,
            batch_regions=settings.max_batch_regions,
            batch_views=settings.max_batch_views,
            batch_wait_s=settings.batch_wait_ms / 1e3,
        )
        self._batcher: Batcher[PreparedRegion, Any] = Batcher(limits, lambda region: region.num_views)
        self._workers = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="worker")
        self._device = threading.Thread(target=self._own_device, name="device", daemon=True)
        self._draining = False
        self._describing = 0  # requests under way; touched by the event loop alone
        self.failure: ModelError | None = None  # why the model could not be loaded
        self.lost = False  # whether the device thread ended unasked
        self.on_loss: Callable[[], None] = lambda: None  # called in the device thread when it ends unasked
        metrics.watch_queue(lambda: float(self._batcher.waiting))

    @property
    def phase(self) -> Phase:
        """READY means loaded, warm, device thread alive and not draining."""
        if self._draining:
            return Phase.DRAINING
        if not self._device.is_alive():
            return Phase.LOST
        return Phase.LOADING if self._predictor is None else Phase.READY

    @property
    def card(self) -> ModelCard:
        """What is known about the loaded model. Raises UnavailableError while there is none."""
        if self._predictor is None:
            raise self._unavailable()
        return self._predictor.card

    def start(self) -> None:
        """Begin loading; `phase` tells when it is done."""
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
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def work(self, task: Callable[[], Result]) -> Result:
        """Run CPU work in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, task)

    async def describe(
        self, regions: int, decode: Callable[[], Pixels], ask: Callable[[int, int], list[RegionQuery]]
    ) -> Described:
        """Describe the regions of one image; cancelling it takes its regions out of the queue.

        regions: how many `ask` will give. decode: gives the upright image. ask: (width, height) -> one query
        per region. Raises QueueFullError or UnavailableError before any work is done, QueryError,
        RegionFailedError.
        """
        predictor = self._ready_predictor()
        self._describing += 1
        try:
            return await self._describe(predictor, regions, decode, ask)
        except FullError as error:
            self._metrics.rejected.labels("queue_full").inc()
            raise QueueFullError("The queue is full; try again later.", error.retry_after_s) from None
        except ClosedError:
            raise self._unavailable() from None
        finally:
            self._describing -= 1

    async def _describe(
        self,
        predictor: Predictor,
        regions: int,
        decode: Callable[[], Pixels],
        ask: Callable[[int, int], list[RegionQuery]],
    ) -> Described:
        with self._batcher.admit(regions) as ticket:
            source = await self.work(lambda: self._prepare(predictor, decode, ask))
            outcomes = await asyncio.wrap_future(ticket.submit(source.prepared))
        _raise_failures(outcomes)
        return await self.work(lambda: self._finish(predictor, source, outcomes))

    def _ready_predictor(self) -> Predictor:
        if self._predictor is None or self.phase is not Phase.READY:
            self._metrics.rejected.labels("unavailable").inc()
            raise self._unavailable()
        return self._predictor

    def _unavailable(self) -> UnavailableError:
        phase = self.phase
        # Ready and yet refused: the device ended between two looks.
        return UnavailableError(f"The service is {(Phase.LOST if phase is Phase.READY else phase).value}.")

    def _prepare(
        self, predictor: Predictor, decode: Callable[[], Pixels], ask: Callable[[int, int], list[RegionQuery]]
    ) -> "_Source":
        began = time.perf_counter()
        pixels = decode()
        decode_ms = (time.perf_counter() - began) * 1e3
        height, width = pixels.shape[:2]
        self._metrics.image_pixels.observe(height * width)
        return _Source(width, height, decode_ms, predictor.prepare(pixels, ask(width, height)))

    def _finish(self, predictor: Predictor, source: "_Source", outcomes: Sequence[Outcome[Any]]) -> Described:
        regions = tuple(
            predictor.finish(region, outcome.output) for region, outcome in zip(source.prepared, outcomes, strict=True)
        )
        timings_ms = {"decode": source.decode_ms, **_total_stages(regions, outcomes)}
        self._metrics.observe_stages(timings_ms)
        queue_ms = tuple(outcome.queue_ms for outcome in outcomes)
        return Described(source.width, source.height, regions, queue_ms, timings_ms)

    def _own_device(self) -> None:
        """The device thread's whole life; an error not of the model's own reaches the thread's hook."""
        try:
            predictor = self._load()
            _warm_up(predictor)
            self._predictor = predictor
            logger.info("ready: model %s, device %s", predictor.card.name, predictor.card.device)
            self._batcher.serve(lambda items: self._run(predictor, items))
        except ModelError as error:
            self.failure = error
        finally:
            if not self._draining:
                self.lost = True
                self.on_loss()

    def _run(self, predictor: Predictor, items: Sequence[PreparedRegion]) -> Sequence[Any]:
        self._metrics.batch_regions.observe(len(items))
        self._metrics.batch_views.observe(sum(item.num_views for item in items))
        return predictor.run(items)


@dataclass(frozen=True, slots=True)
class _Source:
    """A decoded image's size and its regions, ready for the device."""

    width: int
    height: int
    decode_ms: float
    prepared: Sequence[PreparedRegion]


def _warm_up(predictor: Predictor) -> None:
    """One region through every stage, so that the first client does not pay for lazy initialisation."""
    rows, columns = np.mgrid[0:64, 0:64]
    image = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)
    prepared = predictor.prepare(image, [RegionQuery(box=(16.0, 16.0, 48.0, 48.0))])
    for region, output in zip(prepared, predictor.run(prepared), strict=True):
        predictor.finish(region, output)


def _raise_failures(outcomes: Iterable[Outcome[Any]]) -> None:
    """Turn failed regions into one error that points at each of them."""
    failed = [(index, outcome.error) for index, outcome in enumerate(outcomes) if outcome.error is not None]
    if not failed:
        return
    logger.error("a batch failed", exc_info=failed[0][1])
    detail = "The model failed on this region."
    raise RegionFailedError(detail, [Flaw(f"/regions/{index}", detail) for index, _ in failed])


def _total_stages(regions: Sequence[RegionDescription], outcomes: Sequence[Outcome[Any]]) -> dict[str, float]:
    """Stage times of the request. Regions of one batch ran side by side, batches one after another."""
    totals = {
        "views": sum(region.timings_ms.get("views", 0.0) for region in regions),
        "queue": max(outcome.queue_ms for outcome in outcomes),
    }
    for stage in BATCH_STAGES:
        per_batch: dict[int, float] = {}
        for region, outcome in zip(regions, outcomes, strict=True):
            if stage in region.timings_ms:
                per_batch[outcome.batch] = max(per_batch.get(outcome.batch, 0.0), region.timings_ms[stage])
        if per_batch:
            totals[stage] = sum(per_batch.values())
    return totals
