"""What a predictor is: the one contract between the model and whoever runs it. No torch here.

    preparation.prepare_each  (CPU, any thread or process)  image, queries -> one prepared region per query
    run                       (the device's thread)         prepared regions, of any requests -> raw outputs, one batch
    finish                    (CPU, any thread)             raw output -> records

Three verbs, so that CPU work overlaps the device's. `dynrefer.model.DynRefer` is such a predictor; a fake one in the
tests of the service is another. What is handed from verb to verb is the predictor's own business: two type variables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from dynrefer.model.conversing import ConverserSpec, ConverseTurn, Spoken
from dynrefer.model.errors import QueryError
from dynrefer.model.finding import Candidates, FinderInput, FinderSpec, Findings, FindQuery
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.request_vocabulary import RequestVocabulary
from dynrefer.model.segmentation import PointedRegion, WindowMask
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
JoiningT_contra = TypeVar("JoiningT_contra", bound=ReadyRegion, contravariant=True)
OutputT = TypeVar("OutputT")


class Preparation(Protocol[PreparedT_co]):
    """How regions are prepared for a model, without the model: a plain value that pickles, for worker processes."""

    def invalid(self, queries: Sequence[RegionQuery], size: ImageSize) -> list[QueryError]:
        """An error, with its `index`, for each query that cannot be answered about an image of (width, height)."""

    def prepare_each(self, image: Pixels, queries: Sequence[RegionQuery]) -> Iterator[PreparedT_co]:
        """One region per query, made lazily. One thread at a time per image.

        image: (H, W, 3) uint8 RGB, upright. Raises QueryError with the index of the failing query.
        """


class BatchLimits(NamedTuple):
    """At most so many regions, and of these at most so many views together."""

    regions: int
    views: int


class ContinuousBatch(Protocol[JoiningT_contra, OutputT]):
    """Regions on the device, each at a stage of its own: newcomers join and complete ones leave at any time.

    For the device's thread alone, which calls `Predictor.run` only while no region is here. A ticket is a number that
    stands for a region while it is here.
    """

    @property
    def room(self) -> BatchLimits:
        """What may join now; (0, 0) while it is not the turn of newcomers."""

    def admit(self, regions: Sequence[JoiningT_contra]) -> list[int]:
        """Let regions join, at most `room`; a ticket each, in order.

        Raises as `Predictor.run` does; then none of them has joined, and the others are still here.
        """

    def advance(self) -> list[tuple[int, OutputT]]:
        """Do the next piece of work, of tens of milliseconds at most. Returns the regions that are complete with it;
        none where nothing is here.

        Raises as `Predictor.run` does; then nothing is here any more.
        """

    def drop(self, tickets: Sequence[int]) -> None:
        """Let go of regions that nobody waits for; tickets of regions that are not here are passed over."""


class Predictor(Protocol[RegionT, OutputT]):
    """A loaded model. RegionT: its prepared region. OutputT: what the device computes for one."""

    @property
    def card(self) -> ModelCard:
        """What a client may know about the model."""

    @property
    def cache_stats(self) -> Mapping[str, CacheCounts]:
        """Of "views" (vision features), "regions" (representations), "texts" (embeddings of requests' texts),
        "vocabularies" (lists of them) and "shared" (representations of other processes). Any thread."""

    @property
    def preparation(self) -> Preparation[RegionT]:
        """How regions are prepared for it."""

    @property
    def cuda_graphs(self) -> Mapping[str, int]:
        """How many pieces of work are "captured" as CUDA graphs, and how many have "fallen back" to being launched
        kernel by kernel; empty where there are none. Any thread."""

    def understand(self, vocabulary: RequestVocabulary) -> None:
        """Work out what a request's words mean to the model, so that `run` finds it done. CPU work, any thread."""

    def batch_limits(self) -> BatchLimits | None:
        """How large a batch fits the device, measured; with `continuous`, how many regions at all stages together.
        None where the settings' own defaults suit it. Device thread,
        once, after the first batch."""

    def continuous(self) -> ContinuousBatch[RegionT, OutputT] | None:
        """A batch that regions may join at any time; None where whole batches suit the device. Device thread, once."""

    @property
    def segmentation(self) -> Preparation[PointedRegion] | None:
        """How regions that points are given for are prepared for `segment`; None where there is no segmenter."""

    def segment(self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool]) -> Sequence[WindowMask]:
        """The masks of the objects that points lie on, in order; a region's is the same in any batch.

        Device thread only; it may be called between two pieces of work of a continuous batch. Raises as `run` does.
        """

    @property
    def finding(self) -> FinderSpec | None:
        """How images are prepared for `find`; None where there is no finder."""

    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> Sequence[Candidates]:
        """What is in the images, in order; an image's is the same in any batch.

        Device thread only; it may be called between two pieces of work of a continuous batch. Raises as `run` does.
        """

    def look_again(self, query: FindQuery, found: Candidates) -> Sequence[RegionQuery]:
        """What has to be asked about candidates before there are findings; empty where the finder knew all.

        At most `query.max_regions` and a small number that the finder fixes. Any thread.
        """

    def findings(
        self, query: FindQuery, found: Candidates, looked: Sequence[RegionDescription], size: ImageSize
    ) -> Findings:
        """The answer. looked: the descriptions of `look_again`'s queries, in order. size: (W, H) of the upright image.
        Any thread."""

    @property
    def conversing(self) -> ConverserSpec | None:
        """How images are prepared for `converse`; None where there is no converser."""

    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> Sequence[Spoken]:
        """The next piece of each answer, in order; an answer is the same in any batch and by pieces of any length.

        Device thread only; it may be called between two pieces of work of a continuous batch. Raises as `run` does.
        """

    def run(self, regions: Sequence[RegionT], should_stop: Callable[[], bool]) -> Sequence[OutputT]:
        """One output per region, in order. Device thread only; requests and tasks may be mixed.

        should_stop: called between the stages of the work; once it returns true, StoppedError is raised.
        Raises DeviceMemoryError where the batch does not fit the device, DeviceLostError where the device is gone.
        """

    def finish(self, region: RegionT, output: OutputT) -> RegionDescription:
        """The records of one region. Any thread. Raises OutputError for NaN or infinity."""
