"""The executor of this process: one thread owns the device; it loads the model, warms it up and runs batches.

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
from typing import Generic

import numpy as np

from dynrefer.model import Predictor, RegionQuery, gc_paused
from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, ModelError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.engine.executor import Phase, Region
from dynrefer.service.engine.reservations import Kind, Output, Reservation, WorkKind
from dynrefer.service.engine.watchdog import WATCH_EVERY_S, Watchdog
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)


class DeviceThread(Generic[Region, Output]):
    """An `Executor`. load: returns the predictor; called once, in the device thread."""

    def __init__(self, settings: Settings, load: Callable[[], Predictor[Region, Output]], metrics: Metrics) -> None:
        limits = Limits(
            queue_regions=settings.max_queue_regions,
            batch_regions=settings.max_batch_regions,
            batch_views=settings.max_batch_views,
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
        self._on_loss: Callable[[], None] = lambda: None
        self.predictor: Predictor[Region, Output] | None = None
        self.failure: ModelError | None = None
        self.lost = False
        metrics.watch_caches(self._cache_counts)
        metrics.watch_queue(lambda: float(self._batcher.waiting), lambda: float(self._batcher.cap))

    @property
    def phase(self) -> Phase:
        """See `Executor`."""
        if self.lost or not self._thread.is_alive():
            return Phase.LOST
        if self.predictor is None:
            return Phase.LOADING
        if self._watchdog.stuck:
            return Phase.STUCK
        return Phase.STARVED if self._starved else Phase.READY

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
                self._batcher.shares_cores = predictor.card.device == "cpu"
                self.predictor = predictor
                logger.info("ready: model %s, device %s", predictor.card.name, predictor.card.device)
                self._batcher.serve(partial(self._run, predictor))
                served = True
        except DeviceLostError as error:
            logger.error("the device is lost: %s", error)
        finally:
            self.lost = not served

    def _begin(self) -> Predictor[Region, Output] | None:
        """Load and warm up; None where that fails, and `failure` says why, also for what this machine lacks."""
        with gc_paused():
            try:
                predictor = self._load()
                self._warm_up(predictor)
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
        except (ModelError, ImportError, MemoryError, OSError, RuntimeError):
            raise  # `_begin` reports these
        except Exception as error:  # settings that fit the weights and no computation
            logger.debug("the first region failed", exc_info=error)
            raise ModelError(
                f"the model was loaded but cannot describe a region ({type(error).__name__}): its settings do not fit."
            ) from error

    def _run(
        self,
        predictor: Predictor[Region, Output],
        kind: Kind,
        regions: Sequence[Region],
        should_stop: Callable[[], bool],
    ) -> Sequence[Output]:
        """One batch. Describing regions is the only kind of work so far."""
        if kind is not WorkKind.DESCRIBE:
            raise ValueError(f"this executor does not know the work {kind!r}")
        self._metrics.batch_regions.observe(len(regions))
        self._metrics.batch_views.observe(sum(region.num_views for region in regions))
        try:
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

    def _cache_counts(self) -> dict[str, tuple[int, int]]:
        """Cache -> (hits, misses); nothing while no model is loaded."""
        stats = self.predictor.cache_stats if self.predictor else {}
        return {name: (counts.hits, counts.misses) for name, counts in stats.items()}


def _never() -> bool:
    return False
