"""The one device thread: it loads the model, warms it and runs batches; and the watch over it.

Three kinds of trouble are told apart. A batch that does not fit the device's memory is split and the cap on batches
lowered; where not even the smallest region fits any more, nothing is admitted until it does. A batch that gives no
sign of life is stuck: nothing is admitted until it does. A device that is gone, or that stays starved or stuck
beyond the grace time, is lost: the process is to end, so that its supervisor starts a new one.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import ModelCard, RegionDescription, RegionQuery
from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, ModelError, StoppedError
from dynrefer.service.engine.batch_errors import Cancelled, DeviceLost
from dynrefer.service.engine.batcher import Batcher
from dynrefer.service.observability.metrics import Metrics

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

# The watch looks so often, or oftener where the settings name shorter times.
WATCH_EVERY_S = 1.0


class PreparedRegion(Protocol):
    """A region ready for the device. num_views: how many view encodings it costs."""

    @property
    def num_views(self) -> int:
        """View encodings."""


class CacheCounts(Protocol):
    """Look-ups in one of the model's caches so far."""

    @property
    def hits(self) -> int:
        """Those that found something."""

    @property
    def misses(self) -> int:
        """Those that did not."""


class Predictor(Protocol):
    """What the service needs of `model.DynRefer`: three verbs, so that CPU work overlaps the device's."""

    @property
    def card(self) -> ModelCard:
        """What a client may know about the model."""

    @property
    def cache_stats(self) -> Mapping[str, CacheCounts]:
        """Of "views" (vision features) and "regions" (representations). Any thread."""

    def prepare_each(self, image: Pixels, queries: Sequence[RegionQuery]) -> Iterator[PreparedRegion]:
        """One region per query and step. CPU, any thread, one at a time per image: (H, W, 3) uint8 upright RGB.

        Raises QueryError with its index.
        """

    def run(self, regions: Sequence[Any], should_stop: Callable[[], bool]) -> Sequence[Any]:
        """Device thread only; outputs in order; regions of different requests and tasks may share a call.

        should_stop: asked between the stages of the work. Raises StoppedError when told so, DeviceMemoryError and
        DeviceLostError.
        """

    def finish(self, region: Any, output: Any) -> RegionDescription:
        """CPU, any thread. Raises OutputError for NaN or infinity."""


class Device:
    """load: gives the predictor; called once, in the device thread.

    stall_s: silence after which a batch is held to be stuck. grace_s: how long trouble may last before the device is
    given up. on_loss: called in the watching thread when it is.
    """

    def __init__(
        self,
        load: Callable[[], Predictor],
        batcher: Batcher[PreparedRegion, Any],
        metrics: Metrics,
        stall_s: float,
        grace_s: float,
    ) -> None:
        self._load = load
        self._batcher = batcher
        self._metrics = metrics
        self._stall_s, self._grace_s = stall_s, grace_s
        self._thread = threading.Thread(target=self._live, name="device", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._served = False  # whether the thread came to its end as it was asked to
        self._sample: Sequence[PreparedRegion] = ()
        self.predictor: Predictor | None = None  # once it is loaded and warm
        self.failure: ModelError | None = None  # why it could not be loaded
        self.stuck = False
        self.starved = False
        self.lost = False
        self.on_loss: Callable[[], None] = lambda: None

    def cache_counts(self) -> dict[str, tuple[int, int]]:
        """Cache -> (hits, misses); nothing while no model is loaded."""
        stats = self.predictor.cache_stats if self.predictor else {}
        return {name: (counts.hits, counts.misses) for name, counts in stats.items()}

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin loading."""
        self._thread.start()
        self._watcher.start()

    def _live(self) -> None:
        """The device thread's whole life; an error not of the model's own reaches the thread's hook."""
        try:
            predictor = self._begin()
            self._batcher.shares_cores = predictor.card.device == "cpu"
            self.predictor = predictor
            logger.info("ready: model %s, device %s", predictor.card.name, predictor.card.device)
            self._batcher.serve(lambda items, should_stop: self._run(predictor, items, should_stop))
            self._served = True
        except ModelError as error:
            self.failure = error
        except DeviceLost as error:
            logger.error("the device is lost: %s", error)
        finally:
            self.lost = not self._served

    def _begin(self) -> Predictor:
        """Load and warm up. Raises ModelError, also for what this machine lacks."""
        gc.disable()  # what is loaded is hardly ever garbage, and looking for it takes a fifth of the time
        try:
            predictor = self._load()
            self._warm_up(predictor)
            return predictor
        except (ImportError, MemoryError, OSError, RuntimeError) as error:
            logger.debug("loading failed", exc_info=error)
            reason = str(error).split("\n")[0] or "there is not enough memory"
            raise ModelError(f"the model cannot be loaded on this machine: {reason}.") from error
        finally:
            # A loaded model is most of a million objects that stay: looking for garbage among them stops every thread
            # for a third of a second. What little garbage came with it stays too.
            gc.freeze()
            gc.enable()

    def _warm_up(self, predictor: Predictor) -> None:
        """One region through every stage, so that the first client does not pay for lazy initialisation."""
        rows, columns = np.mgrid[0:64, 0:64]
        image = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)
        self._sample = list(predictor.prepare_each(image, [RegionQuery(box=(16.0, 16.0, 48.0, 48.0))]))
        for region, output in zip(self._sample, predictor.run(self._sample, _never), strict=True):
            predictor.finish(region, output)

    def _run(
        self, predictor: Predictor, items: Sequence[PreparedRegion], should_stop: Callable[[], bool]
    ) -> Sequence[Any]:
        self._metrics.batch_regions.observe(len(items))
        self._metrics.batch_views.observe(sum(item.num_views for item in items))
        try:
            return predictor.run(items, should_stop)
        except StoppedError:
            raise Cancelled from None
        except DeviceLostError as error:
            raise DeviceLost(str(error)) from error
        except DeviceMemoryError:
            self._metrics.device_oom.inc()
            logger.warning("no memory for a batch of %d region(s)", len(items))
            if len(items) == 1:
                self._await_memory(predictor)
            raise

    def _await_memory(self, predictor: Predictor) -> None:
        """After a region that does not fit even alone: go on once the smallest one fits. Raises DeviceLost."""
        until = time.monotonic() + self._grace_s
        while not self._sample_fits(predictor):
            if not self.starved:
                logger.error("the device has no memory left even for the smallest region")
                self.starved = True
                self._batcher.suspend()
            if time.monotonic() >= until:
                raise DeviceLost("it has had no memory left for the whole grace time.")
            time.sleep(min(WATCH_EVERY_S, self._grace_s / 4))
        if self.starved:
            logger.info("the device has memory again")
            self.starved = False
            self._batcher.resume()

    def _sample_fits(self, predictor: Predictor) -> bool:
        try:
            predictor.run(self._sample, _never)
        except DeviceMemoryError:
            return False
        return True

    def _watch(self) -> None:
        """The watching thread's whole life: until the device thread ends, or has been stuck for too long."""
        every_s = min(WATCH_EVERY_S, self._stall_s / 4)
        while self.alive and self._batcher.silent_s <= self._stall_s + self._grace_s:
            self._thread.join(every_s)
            silent = self._batcher.silent_s > self._stall_s
            if silent and not self.stuck:
                logger.error("the device has given no sign of life for %g s", self._stall_s)
                self.stuck = True
                self._batcher.suspend()
            elif self.stuck and not silent:
                logger.info("the device answers again")
                self.stuck = False
                self._batcher.resume()
        if self.alive:
            self.lost = True
        elif self.lost and self.failure is None:
            # Long enough for a supervisor to see that it is not ready and for clients to be told.
            time.sleep(self._grace_s)
        if self.lost:
            self.on_loss()


def _never() -> bool:
    return False
