"""Batched inference over many regions of many images.

`Regions` says which regions (drawn scenes, a data file), a `QuerySpec` which tasks with which views, and `run_queries`
returns `QueryResults`. Shapes: R = regions, N = labels of a task.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dynrefer.model.errors import QueryError
from dynrefer.model.types import Corners, ModelCard, RegionDescription, RegionQuery, Task, ViewPlan, ViewPolicy
from dynrefer.workbench.data.regions import ImageRegions, Regions
from dynrefer.workbench.errors import DataError

RECOGNITION = (Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES)
BATCH_REGIONS = 64

Views = tuple[float, ...]
Floats = NDArray[np.float64]


class RegionPredictor(Protocol):
    """The part of `model.DynRefer` that evaluation uses."""

    @property
    def card(self) -> ModelCard:
        """Name, revision, vocabulary and thresholds."""
        ...

    def plan_views(self, image_rgb_u8: NDArray[np.uint8], box: Corners) -> ViewPlan:
        """The views that the image prior chooses."""
        ...

    def prepare(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> Sequence[Any]:
        """An image and queries -> the inputs of `run`, one per query."""
        ...

    def run(self, regions: Sequence[Any]) -> Sequence[Any]:
        """Run the network; raw outputs in the order of `regions`."""
        ...

    def finish(self, region: Any, output: Any) -> RegionDescription:
        """A raw output -> texts and scores."""
        ...


# Chooses the t values of one region, given its image, (H, W, 3) uint8, its box, xyxy pixels, and its row in `Regions`.
ViewChooser = Callable[[RegionPredictor, NDArray[np.uint8], Corners, int], Views]


@dataclass(frozen=True)
class QuerySpec:
    """One query for every region. views: the same t values for all, a policy, or a function of the region."""

    tasks: tuple[Task, ...]
    views: Views | Literal[ViewPolicy.IMAGE_PRIOR, ViewPolicy.TASK_PRIOR] | ViewChooser

    def query(self, predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> RegionQuery:
        """The query for one region; it returns every label of the tasks, whatever its score."""
        if self.views is ViewPolicy.TASK_PRIOR:
            views = None
        elif self.views is ViewPolicy.IMAGE_PRIOR:
            # A query without tasks would use these views too, but would run all four tasks.
            views = tuple(view.t for view in predictor.plan_views(image, box).views)
        else:
            views = self.views if isinstance(self.views, tuple) else self.views(predictor, image, box, row)
        return RegionQuery(
            box,
            tasks=self.tasks,
            views=views,
            top_k=max(len(names) for names in predictor.card.vocabulary.values()),
            thresholds={task: -float("inf") for task in RECOGNITION},
        )


class QueryResults:
    """The outputs for R regions, one row per region.

    scores, probabilities: task -> (R, N) float64 in the order of the regions' names; raw scores, and calibrated
    probabilities in [0, 1]. captions, caption_scores, logprobs: R texts, their scores, and the mean log-probability of
    their tokens; empty if captions were not requested.
    """

    def __init__(self, tasks: Sequence[Task], regions: Regions) -> None:
        """Rows are empty until `add` fills them."""
        names = {task: known for task, known in regions.names.items() if task in tasks}
        self._column = {task: {name: i for i, name in enumerate(known)} for task, known in names.items()}
        self.scores = {task: np.full((len(regions), len(known)), -np.inf) for task, known in names.items()}
        self.probabilities = {task: np.zeros((len(regions), len(known))) for task, known in names.items()}
        self.captions: list[str] = []
        self.caption_scores: list[float] = []
        self.logprobs: list[float] = []

    def add(self, row: int, found: RegionDescription) -> None:
        """Fill a row; rows must be added in order."""
        for task, columns in self._column.items():
            for label in getattr(found, task.value):
                column = columns.get(label.name)
                # A model may know more labels than are scored, and say a broader word before them.
                if column is not None and getattr(label, "level", None) is None:
                    self.scores[task][row, column] = label.score
                    self.probabilities[task][row, column] = label.probability
        if found.caption is not None:
            self.captions.append(found.caption.text)
            self.caption_scores.append(found.caption.score)
            self.logprobs.append(found.caption.logprob_mean)


def run_queries(
    predictor: RegionPredictor,
    regions: Regions,
    specs: Sequence[QuerySpec],
    title: str,
    *,
    batch_regions: int = BATCH_REGIONS,
    readers: int = 1,
) -> list[QueryResults]:
    """Run every spec for every region, in batches that span images; returns one `QueryResults` per spec.

    Specs that run together share view encodings, above all that of t = 0. title: of the progress bar. readers: threads
    that read images and cut views while the network runs. Raises `DataError` for a box that the model refuses.
    """
    results = [QueryResults(spec.tasks, regions) for spec in specs]
    done = 0
    with tqdm(total=len(regions) * len(specs), desc=title, unit="query", disable=None) as bar:
        for batch in _batches(_prepared(predictor, regions, specs, readers), batch_regions):
            for region, output in zip(batch, predictor.run(batch), strict=True):
                row, which = divmod(done, len(specs))
                results[which].add(row, predictor.finish(region, output))
                done += 1
            bar.update(len(batch))
    return results


def _prepared(predictor: RegionPredictor, regions: Regions, specs: Sequence[QuerySpec], readers: int) -> Iterator[Any]:
    """Prepared regions in order; a few images are prepared ahead of the network."""

    def prepare(source: ImageRegions, first: int) -> Sequence[Any]:
        image = source.load()
        rows = enumerate(source.boxes, first)
        try:
            queries = [spec.query(predictor, image, box, row) for row, box in rows for spec in specs]
            return predictor.prepare(image, queries)
        except QueryError as error:
            raise DataError(f"{source.name}: {error}") from error

    ahead: deque[Future[Sequence[Any]]] = deque()
    first = 0
    with ThreadPoolExecutor(readers) as pool:
        try:
            for source in regions.image_regions():
                ahead.append(pool.submit(prepare, source, first))
                first += len(source.boxes)
                if len(ahead) > 2 * readers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:  # after an error the remaining images need not be read
            for future in ahead:
                future.cancel()


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def check_names(predictor: RegionPredictor, names: Mapping[Task, tuple[str, ...]], whose: str) -> None:
    """Raise `DataError` if the model's vocabulary lacks one of `names`. whose: "the drawn world", "data.json"."""
    for task, known in names.items():
        missing = sorted(set(known) - set(predictor.card.vocabulary[task.value]))
        if missing:
            more = f" and {len(missing) - 1} more." if missing[1:] else "."
            raise DataError(f"{predictor.card.name} does not know {whose}: its {task.value} lack {missing[0]!r}{more}")
