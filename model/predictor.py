"""The predictor: regions of an image -> descriptions, in three verbs so that CPU work overlaps the device's.

    prepare  (CPU, any thread)       boxes -> view plans -> crops
    run      (the device's thread)   crops -> logits and token ids, one batch for regions of any request
    finish   (CPU, any thread)       logits and ids -> records

Letters: R regions, V views, T texts, S view side in pixels.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image

from dynrefer.model.batch import BatchResult, FeatureCache, RegionInput, run_batch
from dynrefer.model.cache import CacheStats
from dynrefer.model.crops import ViewCutter
from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.errors import DeviceMemoryError, QueryError
from dynrefer.model.gc_pause import gc_paused
from dynrefer.model.geometry import Box
from dynrefer.model.images import Pixels, upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.postprocessing import (
    RawOutputs,
    answer_attributes,
    answer_caption,
    answer_categories,
    answer_tags,
    check_finite,
)
from dynrefer.model.types import ALL_TASKS, Corners, ModelCard, RegionDescription, RegionQuery, Task, ViewPlan
from dynrefer.model.views import GreyImage, plan_views


@dataclass(frozen=True, slots=True)
class PreparedRegion:
    """A region ready for the device. inputs: one per group of tasks that share their views.

    timings_ms: what its preparation took.
    """

    query: RegionQuery
    box: Corners
    clipped: bool
    inputs: tuple[RegionInput, ...]
    timings_ms: Mapping[str, float]

    @property
    def num_views(self) -> int:
        """How many view encodings the region costs at most."""
        return sum(len(each.views.images) for each in self.inputs)


@dataclass(frozen=True, slots=True)
class RegionOutput:
    """What the device found: one `RawOutputs` per pass; the stage times of the batch it was in."""

    findings: tuple[RawOutputs, ...]
    timings_ms: Mapping[str, float]


class DynRefer:
    """A loaded model. `prepare` and `finish` may be called from any thread, `run` from one at a time."""

    def __init__(self, loaded: LoadedModel, *, cache_bytes: int = 0) -> None:
        """cache_bytes: how much of earlier batches is remembered on the device (view features, representations)."""
        self._loaded = loaded
        self._cache = FeatureCache(cache_bytes)
        self._config = loaded.network.config
        self.card = _card(loaded)

    @classmethod
    def load(
        cls, model: str | Path = "embedded", *, device: str = "auto", dtype: str = "auto", cache_bytes: int = 0
    ) -> Self:
        """Load "embedded" or a model directory; errors as in `loading.load_model`, and `DeviceMemoryError`."""
        with gc_paused():
            return cls(
                translate_device_errors(lambda: load_model(model, device=device, dtype=dtype)), cache_bytes=cache_bytes
            )

    @property
    def cache_stats(self) -> dict[str, CacheStats]:
        """Of what is remembered between batches, by kind: views, regions."""
        return {"views": self._cache.views.stats, "regions": self._cache.regions.stats}

    def describe(
        self,
        image: str | Path | Image.Image | Pixels,
        boxes: Iterable[Sequence[float]],
        task: Task | str | Iterable[Task | str] | None = None,
        *,
        controls: Sequence[str] = (),
        views: Sequence[float] | None = None,
        top_k: int = 10,
        thresholds: Mapping[Task, float] | None = None,
    ) -> list[RegionDescription]:
        """Describe each box of an image.

        image: a file, a Pillow image (both turned upright), or (H, W, 3) uint8 RGB. boxes: xyxy pixels of the upright
        image. task: one, several, or None for all with views chosen by the image. The rest as in `RegionQuery`.
        Raises `QueryError` (with `index`) for a box or views that cannot be answered, ValueError for an unknown task.
        """
        tasks = _tasks(task)
        chosen = None if views is None else tuple(views)
        queries = [
            RegionQuery(_corners(box), tasks, tuple(controls), chosen, top_k, dict(thresholds or {})) for box in boxes
        ]
        regions = self.prepare(upright_pixels(image), queries)
        outputs = self.run(regions) if regions else []
        return [self.finish(region, output) for region, output in zip(regions, outputs, strict=True)]

    def plan_views(
        self, image: Pixels, box: Sequence[float], task: Task | str | None = None, views: Sequence[float] | None = None
    ) -> ViewPlan:
        """The views that `describe` would look at; image: (H, W, 3) uint8 upright RGB."""
        prior = None if task is None else self._config.task_priors[Task(task)]
        return plan_views(image, Box(*_corners(box)), num_views=self._config.num_views, task_prior=prior, views=views)

    def prepare(self, image: Pixels, queries: Sequence[RegionQuery]) -> list[PreparedRegion]:
        """Plan and cut the views of every query on one image: (H, W, 3) uint8 upright RGB.

        Raises `QueryError` with the `index` of the query at fault.
        """
        return list(self.prepare_each(image, queries))

    def prepare_each(self, image: Pixels, queries: Sequence[RegionQuery]) -> Iterator[PreparedRegion]:
        """The same, one region at a time as they are asked for; whoever asks may rest in between.

        For any thread, one at a time. Raises as `prepare` does, once it comes to the query at fault.
        """
        grey, cutter = GreyImage(image), ViewCutter(image, self._config.view_size)
        for index, query in enumerate(queries):
            try:
                prepared = self._prepare_one(grey, cutter, query)
            except QueryError as error:
                error.index = index
                raise
            yield prepared

    def _prepare_one(self, grey: GreyImage, cutter: ViewCutter, query: RegionQuery) -> PreparedRegion:
        started = time.perf_counter()
        given = Box(*query.box)
        box = given.clip(grey.size)
        groups: dict[tuple[float, ...] | None, list[Task]] = {}
        for task in query.tasks or ALL_TASKS:
            prior = None if query.tasks is None else tuple(self._config.task_priors[task])
            groups.setdefault(None if query.views is not None else prior, []).append(task)
        inputs = []
        for prior, tasks in groups.items():
            plan = plan_views(grey, box, num_views=self._config.num_views, task_prior=prior, views=query.views)
            inputs.append(RegionInput(plan, tuple(tasks), cutter.cut(plan), query.controls))
        spent = {"views": (time.perf_counter() - started) * 1e3}
        return PreparedRegion(query, box.corners, box != given, tuple(inputs), spent)

    def run(
        self, regions: Sequence[PreparedRegion], should_stop: Callable[[], bool] | None = None
    ) -> list[RegionOutput]:
        """One batch through the network. An answer does not depend on what else is in the batch.

        should_stop: asked between stages and between caption tokens; once it says so, `StoppedError` is raised.
        Raises `DeviceMemoryError` where the batch does not fit the device, even with nothing remembered on it,
        `DeviceLostError` where the device is gone.
        """
        inputs = [each for region in regions for each in region.inputs]
        try:
            result = self._run_once(inputs, should_stop)
        except DeviceMemoryError:
            if not self._cache.clear():
                raise
            result = self._run_once(inputs, should_stop)
        rest = iter(result.findings)
        return [RegionOutput(tuple(itertools.islice(rest, len(r.inputs))), result.timings_ms) for r in regions]

    def _run_once(self, inputs: Sequence[RegionInput], should_stop: Callable[[], bool] | None) -> BatchResult:
        return translate_device_errors(lambda: run_batch(self._loaded, inputs, self._cache, should_stop))

    def finish(self, region: PreparedRegion, output: RegionOutput) -> RegionDescription:
        """The records of one region. Raises `OutputError` where the network gave NaN or infinity."""
        query, loaded = region.query, self._loaded
        for each in output.findings:
            check_finite(each)
        plans = {task: each.plan for each in region.inputs for task in each.tasks}
        shared = region.inputs[0].plan if len(region.inputs) == 1 else None
        found = {task: f for each, f in zip(region.inputs, output.findings, strict=True) for task in each.tasks}
        return RegionDescription(
            box=region.box,
            clipped=region.clipped,
            plan=shared,
            plans=plans,
            caption=answer_caption(loaded, found[Task.CAPTION]) if Task.CAPTION in found else None,
            tags=answer_tags(loaded, found[Task.TAGS], query) if Task.TAGS in found else None,
            attributes=answer_attributes(loaded, found[Task.ATTRIBUTES], query) if Task.ATTRIBUTES in found else None,
            categories=answer_categories(loaded, found[Task.CATEGORIES], query) if Task.CATEGORIES in found else None,
            timings_ms={**region.timings_ms, **output.timings_ms},
        )


def _tasks(task: Task | str | Iterable[Task | str] | None) -> tuple[Task, ...] | None:
    if task is None:
        return None
    listed = [task] if isinstance(task, str) else list(task)
    return tuple(dict.fromkeys(Task(each) for each in listed))


def _corners(box: Sequence[float]) -> Corners:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def _card(loaded: LoadedModel) -> ModelCard:
    config, vocabulary = loaded.network.config, loaded.vocabulary
    return ModelCard(
        name=config.name,
        revision=config.revision,
        parameters=sum(p.numel() for p in loaded.network.parameters()),
        dtype=str(loaded.dtype).removeprefix("torch."),
        device=str(loaded.device),
        num_views=config.num_views,
        view_size=config.view_size,
        vocabulary={
            "tags": vocabulary.tags,
            "attributes": tuple(attribute.name for attribute in vocabulary.attributes),
            "categories": vocabulary.categories,
        },
        task_priors={task: tuple(ts) for task, ts in config.task_priors.items()},
        thresholds=dict(config.thresholds),
        trained_on=config.trained_on,
        intended_use=config.intended_use,
    )
