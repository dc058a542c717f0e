"""What a predictor is: the one contract between the model and whoever runs it. No torch here.

    preparation.prepare_each  (CPU, any thread or process)  image, queries -> one prepared region per query
    run                       (the device's thread)         prepared regions, of any requests -> raw outputs, one batch
    finish                    (CPU, any thread)             raw output -> records

Three verbs, so that CPU work overlaps the device's. `dynrefer.model.DynRefer` is such a predictor; a fake one in the
tests of the service is another. What is handed from verb to verb is the predictor's own business: two type variables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from dynrefer.model.errors import QueryError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.types import ModelCard, RegionDescription, RegionQuery


class ReadyRegion(Protocol):
    """A region ready for the device."""

    @property
    def num_views(self) -> int:
        """How many view encodings the region costs at most."""


class CacheCounts(Protocol):
    """Look-ups in one of the model's caches so far."""

    @property
    def hits(self) -> int:
        """Those that found something."""

    @property
    def misses(self) -> int:
        """Those that did not."""


RegionT = TypeVar("RegionT", bound=ReadyRegion)
PreparedT_co = TypeVar("PreparedT_co", bound=ReadyRegion, covariant=True)
OutputT = TypeVar("OutputT")


class Preparation(Protocol[PreparedT_co]):
    """How regions are prepared for a model, without the model: a plain value that pickles, for worker processes."""

    def invalid(self, queries: Sequence[RegionQuery], size: ImageSize) -> list[QueryError]:
        """An error, with its `index`, for each query that cannot be answered about an image of (width, height)."""

    def prepare_each(self, image: Pixels, queries: Sequence[RegionQuery]) -> Iterator[PreparedT_co]:
        """One region per query, made lazily. One thread at a time per image.

        image: (H, W, 3) uint8 RGB, upright. Raises QueryError with the index of the failing query.
        """


class Predictor(Protocol[RegionT, OutputT]):
    """A loaded model. RegionT: its prepared region. OutputT: what the device computes for one."""

    @property
    def card(self) -> ModelCard:
        """What a client may know about the model."""

    @property
    def cache_stats(self) -> Mapping[str, CacheCounts]:
        """Of "views" (vision features) and "regions" (representations). Any thread."""

    @property
    def preparation(self) -> Preparation[RegionT]:
        """How regions are prepared for it."""

    def run(self, regions: Sequence[RegionT], should_stop: Callable[[], bool]) -> Sequence[OutputT]:
        """One output per region, in order. Device thread only; requests and tasks may be mixed.

        should_stop: called between the stages of the work; once it returns true, StoppedError is raised.
        Raises DeviceMemoryError where the batch does not fit the device, DeviceLostError where the device is gone.
        """

    def finish(self, region: RegionT, output: OutputT) -> RegionDescription:
        """The records of one region. Any thread. Raises OutputError for NaN or infinity."""
