"""Preparation: pixels and queries -> view plans and crops, ready for the device.

No torch: arguments and results are plain records that pickle, so that preparation can run in a worker process which
never loads the network. Shapes: V = views, S = side of a view in pixels.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynrefer.model.crops import ViewBatch, ViewCutter, highlighted
from dynrefer.model.errors import InvalidQueriesError, PointsError, PromptError, QueryError, ViewsError
from dynrefer.model.evidence.cutting import EvidenceCrops, EvidenceCutter
from dynrefer.model.explanation import ExplainedView
from dynrefer.model.geometry import ImageSize, region_box
from dynrefer.model.images import Pixels
from dynrefer.model.masks import bitmap_from_mask
from dynrefer.model.points import check_points
from dynrefer.model.pyramid import ImagePyramid
from dynrefer.model.request_vocabulary import RequestVocabulary
from dynrefer.model.types import ALL_TASKS, CaptionWriting, Corners, RegionQuery, Task, ViewPlan, ViewPolicy
from dynrefer.model.views import GreyImage, check_views, plan_views

NO_SEGMENTER = (
    "Points need a segmenter, and this model is used without one: give a box, or start with --segmenter DIR, a local "
    "directory with a SAM 2 of transformers."
)


@dataclass(frozen=True, slots=True)
class PreparationSpec:
    """What preparation needs to know of a model: V, S, and the t values of each task's views.

    evidence: whether the model has evidence of photographs, which looks at crops of its own.

    It is the model's `Preparation`: all that a worker process needs of it.
    """

    num_views: int
    view_size: int
    task_priors: Mapping[str, tuple[float, ...]]
    evidence: bool = False

    def invalid(self, queries: Sequence[RegionQuery], size: ImageSize) -> list[QueryError]:
        """See `Preparation`."""
        return invalid_queries(queries, size, self)

    def prepare_each(self, image: Pixels, queries: Sequence[RegionQuery]) -> "Iterator[PreparedRegion]":
        """See `Preparation`."""
        return prepare_each(image, queries, self)


@dataclass(frozen=True, slots=True)
class RegionInput:
    """A region with one view plan, and the tasks that share the plan.

    evidence: the region's crops of the original image; the same object for all inputs of the region.
    vocabulary: as in `RegionQuery`.
    left_out: None for an input that is answered. For a probe, which only explains the answer, the place of the view
    that t = 0 stands in for; 0: all views are there. Probes repeat views of their region and have no evidence.
    prompts: whether each prompt's score of the attributes is kept, and not the best of an attribute alone.
    """

    plan: ViewPlan
    tasks: tuple[Task, ...]
    views: ViewBatch
    controls: tuple[str, ...]
    evidence: EvidenceCrops | None = None
    writing: CaptionWriting = CaptionWriting()
    vocabulary: RequestVocabulary | None = None
    left_out: int | None = None
    prompts: bool = False


@dataclass(frozen=True, slots=True)
class PreparedRegion:
    """A region ready for the device. inputs: one per group of tasks that share their views, then its probes.

    box: xyxy pixels of the upright image, clipped to it; clipped: whether that changed it.
    timings_ms: how long its preparation took, as "views".
    explained: the views that its explanation lists; empty without one.
    """

    query: RegionQuery
    box: Corners
    clipped: bool
    inputs: tuple[RegionInput, ...]
    timings_ms: Mapping[str, float]
    explained: tuple[ExplainedView, ...] = ()

    @property
    def num_views(self) -> int:
        """The most view encodings that the region can cost: probes show nothing that is not encoded anyway."""
        return sum(len(each.views.images) for each in self.inputs if each.left_out is None)


def prepare(image: Pixels, queries: Sequence[RegionQuery], spec: PreparationSpec) -> list[PreparedRegion]:
    """Plan and cut the views of every query on one image: (H, W, 3) uint8 upright RGB.

    Raises, before anything is cut, the `QueryError` of the query that cannot be answered, with its `index`, or one
    `InvalidQueriesError` for several.
    """
    if errors := invalid_queries(queries, (image.shape[1], image.shape[0]), spec):
        raise InvalidQueriesError.one_or_all(errors)
    return list(prepare_each(image, queries, spec))


def invalid_queries(queries: Sequence[RegionQuery], size: ImageSize, spec: PreparationSpec) -> list[QueryError]:
    """An error, with its `index`, for each query that cannot be answered about an image of (width, height) pixels."""
    errors: list[QueryError] = []
    for index, query in enumerate(queries):
        try:
            check_found(query, size)
            region_box(query.box).clip(size)
            if query.view_policy is not None and (fault := query.view_policy.contradiction(query.views)):
                raise ViewsError(fault)
            if query.views is not None:
                check_views(query.views, spec.num_views)
        except QueryError as error:
            error.index = index
            errors.append(error)
    return errors


def check_found(query: RegionQuery, size: ImageSize) -> None:
    """Raise what is wrong with that which the region was pointed at with: the query's `flaw`, `PointsError` for points
    whose object no segmenter has found, `PromptError` for a mask of another size or none to highlight."""
    if query.flaw is not None:
        raise query.flaw
    if query.points and query.mask is None:
        check_points(query.points, size)
        raise PointsError(NO_SEGMENTER)
    if query.mask is not None and query.mask.size != (size[1], size[0]):
        height, width = query.mask.size
        raise PromptError(f"The mask has {width} x {height} pixels, and the image {size[0]} x {size[1]}.", "mask")
    if query.highlight and query.mask is None:
        raise PromptError("Only a region with a mask, a polygon or points can be highlighted.", "highlight")


def prepare_each(image: Pixels, queries: Sequence[RegionQuery], spec: PreparationSpec) -> Iterator[PreparedRegion]:
    """`prepare`, one region per step, so that the caller can pause in between.

    For use by one thread at a time. Raises `QueryError` with the `index` of a failing query when it reaches that.
    """
    shared = _Cutters.of(image, spec)
    for index, query in enumerate(queries):
        try:
            prepared = _prepare_one(image, shared, query, spec)
        except QueryError as error:
            error.index = index
            raise
        yield prepared


@dataclass(frozen=True, slots=True)
class _Cutters:
    """What cuts the regions of one image."""

    grey: GreyImage
    views: ViewCutter
    evidence: EvidenceCutter | None

    @classmethod
    def of(cls, image: Pixels, spec: PreparationSpec, original: "EvidenceCutter | None" = None) -> "_Cutters":
        pyramid = ImagePyramid(image)
        evidence = EvidenceCutter(pyramid, original) if spec.evidence else None
        return cls(GreyImage(image), ViewCutter(pyramid, spec.view_size), evidence)


def _prepare_one(image: Pixels, shared: _Cutters, query: RegionQuery, spec: PreparationSpec) -> PreparedRegion:
    started = time.perf_counter()
    given = region_box(query.box)
    cutters = shared
    if query.highlight and query.mask is not None:
        cutters = _Cutters.of(highlighted(image, bitmap_from_mask(query.mask)), spec, shared.evidence)
    box = given.clip(cutters.grey.size)
    groups: dict[tuple[float, ...] | None, list[Task]] = {}  # tasks by their prior; None: no prior applies
    for task in query.tasks or ALL_TASKS:
        prior = spec.task_priors[task] if _policy(query) is ViewPolicy.TASK_PRIOR else None
        groups.setdefault(prior, []).append(task)
    crops = None if cutters.evidence is None else cutters.evidence.cut(box.corners)
    inputs = []
    for prior, tasks in groups.items():
        plan = plan_views(cutters.grey, box, num_views=spec.num_views, task_prior=prior, views=query.views)
        views = cutters.views.cut(plan)
        own = query.writing, query.vocabulary
        inputs.append(RegionInput(plan, tuple(tasks), views, query.controls, crops, *own))
    explained: tuple[ExplainedView, ...] = ()
    if query.explain is not None:
        from dynrefer.model.explained_views import explained_views, with_probes

        plans = {each.plan: each.tasks for each in inputs}
        explained = explained_views(cutters.grey, cutters.views, box, plans, query.explain)
        if query.explain.evidence:
            inputs = with_probes(inputs)
    spent = {"views": (time.perf_counter() - started) * 1e3}
    return PreparedRegion(query, box.corners, box != given, tuple(inputs), spent, explained)


def _policy(query: RegionQuery) -> ViewPolicy:
    """The policy by force, else the one that the other fields mean."""
    if query.view_policy is not None:
        return query.view_policy
    if query.views is not None:
        return ViewPolicy.FIXED
    return ViewPolicy.IMAGE_PRIOR if query.tasks is None else ViewPolicy.TASK_PRIOR
