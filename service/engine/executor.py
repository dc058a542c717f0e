"""The interface between the engine and whatever runs prepared work: by default the device thread of this process.

An executor owns the model and the queue in front of it. Another one may run the work in other processes or on other
machines; the engine sees no difference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeVar

from dynrefer.model import Predictor, ReadyRegion
from dynrefer.model.errors import ModelError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.reservations import Output, Reservation
from dynrefer.service.observability.metrics import Metrics, SharedCacheCounts

Region = TypeVar("Region", bound=ReadyRegion)


class Phase(Enum):
    """Where an executor, or the engine as a whole, is in its life. The values complete "The service is ..."."""

    LOADING = "loading its model"
    READY = "ready"
    STARVED = "waiting for its device to have memory again"
    STUCK = "waiting for its device to answer again"
    DRAINING = "shutting down"  # the engine's alone
    LOST = "without its device"


@dataclass(frozen=True, slots=True)
class ExecutorCounts:
    """What the metrics show of an executor. waiting, running, cap: regions, as of the queue. caches: (hits, misses) by
    name. graphs: pieces of work by what became of them. model: name and revision, None while there is none.
    regions_per_s: what the device was seen to manage; 0: nothing yet. replicas: by whether they answer, where the model
    runs in other processes. shared_cache: of these processes."""

    waiting: int = 0
    running: int = 0
    cap: int = 0
    caches: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    graphs: Mapping[str, int] = field(default_factory=dict)
    model: tuple[str, str] | None = None
    regions_per_s: float = 0.0
    replicas: Mapping[str, int] = field(default_factory=dict)
    shared_cache: SharedCacheCounts = SharedCacheCounts()


class Executor(Protocol[Region, Output]):
    """Runs prepared regions. Region, Output: as in its predictor."""

    @property
    def phase(self) -> Phase:
        """READY means loaded, warmed up and able to run; LOST that it runs nothing any more, closed or not."""

    @property
    def failure(self) -> ModelError | None:
        """Why the model could not be loaded."""

    @property
    def lost(self) -> bool:
        """Whether the device thread ended without a request to stop, or was given up."""

    @property
    def predictor(self) -> Predictor[Region, Output] | None:
        """Prepares regions for this executor and finishes its outputs; None until it is loaded and warmed up."""

    @property
    def counts(self) -> ExecutorCounts:
        """For the metrics, as of now. Called in any thread."""

    @property
    def loaded_at(self) -> float:
        """When `predictor` was there, in seconds since the epoch; 0 until then."""

    def start(self, on_loss: Callable[[], None]) -> None:
        """Begin loading. on_loss: called once, in any thread, when the device is given up or could not be had."""

    def close(self) -> None:
        """Admit nothing more; end once what is admitted has run."""

    def reserve(self, regions: int, context: RequestContext) -> Reservation[Region, Output]:
        """Room for at most so many regions of one request. Raises QueueFullError or ExecutorClosed."""

    def wait_for_idle_cores(self) -> None:
        """Called in a thread before image work: return once it does not take the cores from a running batch."""


def watch_executor(metrics: Metrics, current: Callable[[], ExecutorCounts]) -> None:
    """Read the counts of the executor that serves whenever the metrics are read."""
    metrics.watch_caches(lambda: current().caches)
    metrics.watch_graphs(lambda: current().graphs)
    metrics.watch_model(lambda: current().model)
    metrics.watch_replicas(lambda: current().replicas)
    metrics.watch_queue(
        waiting=lambda: float(current().waiting),
        running=lambda: float(current().running),
        cap=lambda: float(current().cap),
    )
