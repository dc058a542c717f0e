"""The executor of this process: one thread owns the device; it loads the model, warms it up and runs batches.

Regions join and leave a batch at any time where the predictor has such a batch, else batch follows batch.

Three kinds of failure are distinguished. A batch that does not fit the device's memory is split and the cap on batches
lowered; where not even the smallest region fits any more, nothing is admitted until it does (starved). A batch
without a heartbeat is stuck: nothing is admitted until the next one (`watchdog.py`). A device that is gone, or that
stays starved or stuck beyond the grace time, is lost: the process should end, so that its supervisor restarts it.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, cast

import numpy as np

from dynrefer.model import (
    BatchLimits,
    Conversation,
    FindQuery,
    Message,
    PointPrompt,
    Predictor,
    RegionQuery,
    Role,
    gc_paused,
)
from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, ModelError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.engine.device_batch import DeviceBatch
from dynrefer.service.engine.executor import ExecutorCounts, Phase, Region
from dynrefer.service.engine.reservations import Kind, Output, Reservation, WorkKind
from dynrefer.service.engine.watchdog import WATCH_EVERY_S, Watchdog
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

USUAL_BATCH = BatchLimits(regions=16, views=48)  # where neither the settings nor the predictor say


class DeviceThread(Generic[Region, Output]):
    """An `Executor`. load: returns the predictor; called once, in the device thread."""

    def __init__(self, settings: Settings, load: Callable[[], Predictor[Region, Output]], metrics: Metrics) -> None:
        self._settings = settings
        most = self._batch_limits(None)
        limits = Limits(
            queue_regions=settings.max_queue_regions,
            batch_regions=most.regions,
            batch_views=most.views,
            batch_wait_s=settings.batch_wait_ms / 1e3,
            key_regions=settings.key_regions,
        )
        self._load = load
        self._metrics = metrics
        self._grace_s = settings.device_grace_s
        self._batcher: Batcher[Region, Output] = Batcher(limits, lambda region: region.num_views)
        self._watchdog = Watchdog(self._batcher, settings.device_stall_s, settings.device_grace_s)
        self._thread = threading.Thread(target=self._live, name="device", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._starved = False
        self._sample: Sequence[Region] = ()  # the smallest region there is
        self._batch: DeviceBatch[Region, Output] | None = None  # where batching is continuous
        self._on_loss: Callable[[], None] = lambda: None
        self._start_s = 0.0, 0.0  # of loading, and of the first regions
        self.predictor: Predictor[Region, Output] | None = None
        self.loaded_at = 0.0
        self.failure: ModelError | None = None
        self.lost = False

    @property
    def phase(self) -> Phase:
        """See `Executor`."""
        if self.lost or not (self._thread.is_alive() or self._thread.ident is None):
            return Phase.LOST
        if self.predictor is None:
            return Phase.LOADING
        if self._watchdog.stuck:
            return Phase.STUCK
        return Phase.STARVED if self._starved else Phase.READY

    @property
    def counts(self) -> ExecutorCounts:
        """See `Executor`."""
        predictor, batcher = self.predictor, self._batcher
        queue = (batcher.waiting, len(batcher.running), batcher.cap)
        if predictor is None:
            return ExecutorCounts(*queue)
        caches = {name: (counts.hits, counts.misses) for name, counts in predictor.cache_stats.items()}
        model = (predictor.card.name, predictor.card.revision)
        return ExecutorCounts(*queue, caches, predictor.cuda_graphs, model, batcher.throughput.regions_per_s)

    def start(self, on_loss: Callable[[], None]) -> None:
        """See `Executor`."""
        self._on_loss = on_loss
        self._thread.start()
        self._watcher.start()

    def close(self) -> None:
        """See `Executor`."""
        self._batcher.close()

    def reserve(self, regions: int, context: RequestContext) -> Reservation[Region, Output]:
        """See `Executor`."""
        return self._batcher.reserve(regions, context.caller, context.deadline, context.id)

    def wait_for_idle_cores(self) -> None:
        """See `Executor`."""
        self._batcher.wait_for_idle_cores()

    def _live(self) -> None:
        """The device thread's whole life; an error not of the model's own reaches the thread's hook."""
        served = False  # whether it ended on request
        try:
            if (predictor := self._begin()) is not None:
                # Regions that join at any time leave no gap between batches that image work could wait for.
                self._batcher.shares_cores = predictor.card.device == "cpu" and self._batch is None
                self.loaded_at = time.time()
                self.predictor = predictor
                logger.info(
                    "ready: model %s, device %s, batches of %d regions and %d views%s; "
                    "loaded in %.1f s, first regions in %.1f s",
                    predictor.card.name,
                    predictor.card.device,
                    self._batcher.limits.batch_regions,
                    self._batcher.limits.batch_views,
                    ", which regions join at any time" if self._batch else "",
                    *self._start_s,
                )
                self._batcher.serve(partial(self._run, predictor), self._batch)
                served = True
        except DeviceLostError as error:
            logger.error("the device is lost: %s", error)
        finally:
            self.lost = not served

    def _begin(self) -> Predictor[Region, Output] | None:
        """Load and warm up; None where that fails, and `failure` says why, also for what this machine lacks."""
        with gc_paused():
            try:
                began = time.perf_counter()
                predictor = self._load()
                loaded = time.perf_counter()
                self._warm_up(predictor)
                self._batcher.limit_batches(self._batch_limits(predictor.batch_limits()))
                self._batch = self._begin_continuous(predictor)
                self._start_s = loaded - began, time.perf_counter() - loaded
                return predictor
            except ModelError as error:
                self.failure = error
            except (ImportError, MemoryError, OSError, RuntimeError) as error:
                logger.debug("loading failed", exc_info=error)
                reason = str(error).split("\n")[0] or "there is not enough memory"
                self.failure = ModelError(f"the model cannot be loaded on this machine: {reason}.")
            finally:
                # A loaded model is most of a million objects that stay: looking for garbage among them stops every
                # thread for a third of a second. What little garbage came with it stays too.
                gc.freeze()
        return None

    def _warm_up(self, predictor: Predictor[Region, Output]) -> None:
        """One region through every stage, so that the first client does not pay for lazy initialisation.

        Raises `ModelError`, whatever a model that could be loaded and yet cannot describe raises.
        """
        rows, columns = np.mgrid[0:64, 0:64]
        image = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)
        try:
            self._sample = list(predictor.preparation.prepare_each(image, [RegionQuery(box=(16.0, 16.0, 48.0, 48.0))]))
            for region, output in zip(self._sample, predictor.run(self._sample, _never), strict=True):
                predictor.finish(region, output)
            if predictor.segmentation is not None:
                pointed = [RegionQuery(box=(0.0, 0.0, 64.0, 64.0), points=(PointPrompt(32.0, 32.0),))]
                predictor.segment(list(predictor.segmentation.prepare_each(image, pointed)), _never)
            if predictor.finding is not None:
                predictor.find(list(predictor.finding.prepare_each(image, [FindQuery()])), _never)
            if predictor.conversing is not None:
                asked = Conversation((Message(Role.USER, "What is this?"),))
                predictor.converse(list(predictor.conversing.prepare_each(image, [asked])), _never)
        except (ModelError, ImportError, MemoryError, OSError, RuntimeError):
            raise  # `_begin` reports these
        except Exception as error:  # settings that fit the weights and no computation
            logger.debug("the first region failed", exc_info=error)
            raise ModelError(
                f"the model was loaded but cannot describe a region ({type(error).__name__}): its settings do not fit."
            ) from error

    def _batch_limits(self, measured: BatchLimits | None) -> BatchLimits:
        """What the settings say, else what was measured, else what is usual."""
        regions, views = measured or USUAL_BATCH
        return BatchLimits(self._settings.max_batch_regions or regions, self._settings.max_batch_views or views)

    def _begin_continuous(self, predictor: Predictor[Region, Output]) -> DeviceBatch[Region, Output] | None:
        """The predictor's batch that regions join at any time, warmed up; None where there is none.

        Where it fails, whole batches serve as well, unless the settings demand it: then it raises ModelError.
        """
        if (inner := predictor.continuous()) is None:
            return None
        batch = DeviceBatch(inner, self._metrics)
        try:
            for region, output in zip(
                self._sample, batch.warm_up(self._sample, self._settings.device_stall_s), strict=True
            ):
                predictor.finish(region, output)
        except DeviceLostError:
            raise
        except Exception as error:
            if self._settings.batching == "continuous":
                raise ModelError(
                    f"continuous batching does not work on this device ({type(error).__name__})."
                ) from error
            logger.warning("continuous batching failed with the first region; whole batches serve", exc_info=error)
            return None
        return batch

    def _run(
        self,
        predictor: Predictor[Region, Output],
        kind: Kind,
        regions: Sequence[Region],
        should_stop: Callable[[], bool],
    ) -> Sequence[Output]:
        """One batch of one kind."""
        try:
            if kind is WorkKind.SEGMENT:  # other items than those of the predictor's own kind
                return cast("Sequence[Output]", predictor.segment(cast("Sequence[Any]", regions), should_stop))
            if kind is WorkKind.FIND:
                return cast("Sequence[Output]", predictor.find(cast("Sequence[Any]", regions), should_stop))
            if kind is WorkKind.CONVERSE:
                return cast("Sequence[Output]", predictor.converse(cast("Sequence[Any]", regions), should_stop))
            if kind is not WorkKind.DESCRIBE:
                raise ValueError(f"this executor does not know the work {kind!r}")
            self._metrics.observe_batch(len(regions), sum(region.num_views for region in regions))
            return predictor.run(regions, should_stop)
        except DeviceMemoryError:
            self._metrics.device_oom.inc()
            logger.warning("no memory for a batch of %d region(s)", len(regions))
            if len(regions) == 1:
                self._wait_for_memory(predictor)
            raise

    def _wait_for_memory(self, predictor: Predictor[Region, Output]) -> None:
        """After a region that does not fit even alone: go on once the smallest one fits. Raises DeviceLostError."""
        until = time.monotonic() + self._grace_s
        while not self._sample_fits(predictor):
            if not self._starved:
                logger.error("the device has no memory left even for the smallest region")
                self._starved = True
                self._batcher.suspend()
            if time.monotonic() >= until:
                raise DeviceLostError("it has had no memory left for the whole grace time.")
            time.sleep(min(WATCH_EVERY_S, self._grace_s / 4))
        if self._starved:
            logger.info("the device has memory again")
            self._starved = False
            self._batcher.resume()

    def _sample_fits(self, predictor: Predictor[Region, Output]) -> bool:
        try:
            predictor.run(self._sample, _never)
        except DeviceMemoryError:
            return False
        return True

    def _watch(self) -> None:
        """The watching thread's whole life."""
        if not self._watchdog.watch(self._thread):
            self.lost = True
        elif self.lost and self.failure is None:
            # Long enough for a supervisor to see that it is not ready and for clients to be answered.
            time.sleep(self._grace_s)
        if self.lost:
            self._on_loss()


def _never() -> bool:
    return False
