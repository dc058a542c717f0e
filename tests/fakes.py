"""A predictor without weights or torch, whose words follow from the box, and an engine around it: for tests of the
service."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import (
    ALL_TASKS,
    AttributeLabel,
    BatchLimits,
    Candidates,
    Caption,
    ConverserSpec,
    ConverseTurn,
    Corners,
    FinderInput,
    Findings,
    FindQuery,
    Label,
    ModelCard,
    PointPrompt,
    Preparation,
    RegionDescription,
    RegionQuery,
    RequestVocabulary,
    Spoken,
    Task,
    View,
    ViewPlan,
    ViewPolicy,
)
from dynrefer.model.cache import CacheStats
from dynrefer.model.errors import QueryError, StoppedError
from dynrefer.model.findings import findings, queries_to_look
from dynrefer.model.geometry import ImageSize
from dynrefer.model.segmentation import PointedRegion, SegmentationSpec, WindowMask
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.conversing import Answering
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.engine import Engine
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings
from dynrefer.service.workers.threads import WorkerThreads
from tests.fake_batch import FakeBatch
from tests.fake_converser import spoken
from tests.fake_finder import FakeFinderSpec, candidates
from tests.fake_preparation import NUM_VIEWS, FakePreparation, FakeRegion, prepared

PRIORS: Mapping[Task, tuple[float, ...]] = {
    Task.CAPTION: (0.0, 0.4, 1.0),
    Task.TAGS: (0.0, 0.2, 0.5),
    Task.ATTRIBUTES: (0.0, 0.1, 0.3),
    Task.CATEGORIES: (0.0, 0.1, 0.3),
}
NAMES = {
    "tags": ("dog", "street", "leash"),
    "attributes": ("color:brown", "size:small"),
    "categories": ("dog", "fox", "wolf"),
}
CARD = ModelCard(
    name="fake",
    revision="0",
    parameters=0,
    dtype="float32",
    device="cpu",
    num_views=NUM_VIEWS,
    view_size=224,
    vocabulary=NAMES,
    task_priors={task.value: views for task, views in PRIORS.items()},
    thresholds={"tags": 0.5},
    trained_on="nothing",
    intended_use="tests of the service",
)


@dataclass
class FakePredictor:
    """run_hook: called with the boxes of each batch in the device thread; it may sleep, raise or end the
    thread. prepare_hook: called with each query in the thread that prepares it.

    batches: the boxes of every batch run. run_threads: names of the threads that called `run`.
    in_processes: whether its regions can be prepared in worker processes; its hooks cannot go there.
    segmentation: how points are prepared; None: it has no segmenter. segment_hook: called with the points of each
    region in the device thread.
    finding: how images are prepared to be searched; None: it has no finder. find_hook: called with what each image is
    asked in the device thread.
    conversing: how images are prepared for questions; None: it has no converser. converse_hook: called with each turn
    in the device thread.
    limits: how large its batches may be. batch: where regions join at any time, answered as `run` does.
    """

    card: ModelCard = CARD
    run_hook: Callable[[Sequence[Corners]], None] = lambda boxes: None
    prepare_hook: Callable[[RegionQuery], None] = lambda query: None
    batches: list[list[Corners]] = field(default_factory=list)
    run_threads: set[str] = field(default_factory=set)
    prepare_threads: set[str] = field(default_factory=set)
    queries: list[RegionQuery] = field(default_factory=list)
    in_processes: bool = False
    limits: BatchLimits | None = None
    batch: "FakeBatch[FakeRegion, float] | None" = None
    cuda_graphs: Mapping[str, int] = field(default_factory=dict)
    segmentation: SegmentationSpec | None = None
    segment_hook: Callable[[tuple[PointPrompt, ...]], None] = lambda points: None
    segmented: list[int] = field(default_factory=list)
    finding: FakeFinderSpec | None = None
    find_hook: Callable[[FindQuery], None] = lambda query: None
    searched: list[int] = field(default_factory=list)
    conversing: ConverserSpec | None = None
    converse_hook: Callable[[ConverseTurn], None] = lambda turn: None
    conversed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What the card says of a finder and a converser is true."""
        self.card = replace(self.card, detection=self.finding is not None, conversation=self.conversing is not None)

    def understand(self, vocabulary: RequestVocabulary) -> None:
        """Nothing: its words follow from the box."""

    def batch_limits(self) -> BatchLimits | None:
        """Those given."""
        return self.limits

    def continuous(self) -> "FakeBatch[FakeRegion, float] | None":
        """The one given."""
        return self.batch

    @property
    def preparation(self) -> "Preparation[FakeRegion]":
        """Itself, so that the hooks see everything, unless it has to pickle."""
        return FakePreparation() if self.in_processes else self

    def invalid(self, queries: Sequence[RegionQuery], size: ImageSize) -> list[QueryError]:
        """What the real one finds."""
        return FakePreparation().invalid(queries, size)

    @property
    def cache_stats(self) -> Mapping[str, CacheStats]:
        """Made-up counts, all different."""
        return {"views": CacheStats(hits=3, misses=4), "regions": CacheStats(hits=1, misses=2)}

    def prepare_each(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> Iterator[FakeRegion]:
        """Raises what the real one raises."""
        self.queries.extend(queries)
        for index, query in enumerate(queries):
            self.prepare_threads.add(threading.current_thread().name)
            try:
                self.prepare_hook(query)
                region = prepared(image, query)
            except QueryError as error:
                error.index = index
                raise
            yield region

    def segment(self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool]) -> list[WindowMask]:
        """A square of 8 pixels around the first point. `segmented`: how many regions each call had."""
        self.segmented.append(len(regions))
        for region in regions:
            if should_stop():
                raise StoppedError("nobody waits")
            self.segment_hook(region.points)
        corners = [(each.points[0].x - 4, each.points[0].y - 4) for each in regions]
        return [WindowMask((x, y, x + 8, y + 8), np.ones((4, 4), dtype=np.float16)) for x, y in corners]

    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> list[Candidates]:
        """See `fake_finder.candidates`. `searched`: how many images each call had."""
        self.searched.append(len(images))
        for image in images:
            if should_stop():
                raise StoppedError("nobody waits")
            self.find_hook(image.query)
        return [candidates(image) for image in images]

    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        """See `fake_converser.spoken`. `conversed`: how many tokens were written of each turn before."""
        for turn in turns:
            if should_stop():
                raise StoppedError("nobody waits")
            self.converse_hook(turn)
            self.conversed.append(len(turn.written))
        return [spoken(turn) for turn in turns]

    def look_again(self, query: FindQuery, found: Candidates) -> list[RegionQuery]:
        """As the real one."""
        return queries_to_look(query, found)

    def findings(
        self, query: FindQuery, found: Candidates, looked: Sequence[RegionDescription], size: ImageSize
    ) -> Findings:
        """As the real one."""
        return findings(query, found, looked, size, lambda name: ("animal",))

    def run(self, regions: Sequence[FakeRegion], should_stop: Callable[[], bool] = lambda: False) -> list[float]:
        """One number per region."""
        self.run_threads.add(threading.current_thread().name)
        boxes = [region.box for region in regions]
        self.batches.append(boxes)
        self.run_hook(boxes)
        return [answer(region) for region in regions]

    def finish(self, region: FakeRegion, output: float) -> RegionDescription:
        """Every requested task, with scores that fall by 0.1."""
        tasks = region.query.tasks or ALL_TASKS
        plans = {task: _plan(region, task) for task in tasks}
        shared = next(iter(plans.values())) if len(set(plans.values())) == 1 else None
        return RegionDescription(
            box=region.box,
            clipped=region.clipped,
            plan=shared,
            plans=plans,
            results={task: _result(region, task, output) for task in Task if task in tasks},
            timings_ms={"views": 0.5, "vision": 2.0, "heads": 1.0, "caption": 3.0},
            mask=region.query.mask if region.query.points else None,
        )


def answer(region: FakeRegion) -> float:
    """The fake predictor's output."""
    return sum(region.box) / 1000


def _plan(region: FakeRegion, task: Task) -> ViewPlan:
    width, height = region.size
    whole = (0.0, 0.0, float(width), float(height))
    if region.query.views is not None:
        chosen, policy = region.query.views, ViewPolicy.FIXED
    elif region.query.tasks is not None:
        chosen, policy = PRIORS[task], ViewPolicy.TASK_PRIOR
    else:
        chosen, policy = (0.0, 0.6, 1.0), ViewPolicy.IMAGE_PRIOR
    views = []
    for t in chosen:
        x1, y1, x2, y2 = (near + t * (far - near) for near, far in zip(region.box, whole, strict=True))
        views.append(View(t, (x1, y1, x2, y2)))
    return ViewPlan(tuple(views), policy)


def _result(region: FakeRegion, task: Task, output: float) -> Any:
    if task is Task.CAPTION:
        return _caption(region, output)
    return _attributes(region) if task is Task.ATTRIBUTES else _labels(region, task)


def _caption(region: FakeRegion, output: float) -> Caption:
    words = " ".join(("pixel", *map(str, region.pixel), *region.query.controls))
    return Caption(text=words, score=output, logprob_sum=-1.0, logprob_mean=-0.25)


def _labels(region: FakeRegion, task: Task) -> tuple[Label, ...]:
    least = region.query.thresholds.get(task, float("-inf"))
    scored = [Label(name, 0.9 - 0.1 * rank, 0.8) for rank, name in enumerate(NAMES[task.value])]
    return tuple(label for label in scored if label.score > least)[: region.query.top_k]


def _attributes(region: FakeRegion) -> tuple[AttributeLabel, ...]:
    labels = _labels(region, Task.ATTRIBUTES)
    parts = [label.name.split(":") for label in labels]
    return tuple(
        AttributeLabel(label.name, kind, value, label.score, label.probability)
        for label, (kind, value) in zip(labels, parts, strict=True)
    )


def local_engine(
    load: Callable[[], FakePredictor], threads: int = 2, upstream: Answering | None = None, **settings: Any
) -> Engine:
    """An engine around a device thread of this process; images are prepared in so many threads. upstream: as its."""
    metrics = Metrics()
    executor = DeviceThread(Settings(**settings), load, metrics)
    workers = WorkerThreads(threads, executor.wait_for_idle_cores, metrics)
    return Engine(executor, workers, metrics, upstream=upstream)


def context_of(caller: str | None = None, timeout_s: float = 60.0) -> RequestContext:
    """The context of a request that has just come."""
    return RequestContext("req_1", caller, timeout_s, time.monotonic() + timeout_s, time.perf_counter())


def slowly(seconds: float) -> Callable[[Sequence[Corners]], None]:
    """A run_hook that takes its time."""
    return lambda boxes: time.sleep(seconds)
