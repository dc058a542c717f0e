"""Drawn test regions: which scenes, what is true of them, and what a predictor says of them.

Seeds: training draws from the split "train" only, a random stream of its own; validation (for tuning) and
test never share a scene, whatever their `scenes_seed` is.
Letters: R regions, K categories, T tags, A attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.errors import ConfigError
from model.records import Corners, ModelCard, RegionDescription, RegionQuery, Task, ViewPlan
from model.training.artwork import SpritePack
from model.training.scenes import Scene, SceneObject, Split, draw_scene
from model.training.world import World

RECOGNITION = (Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES)
BATCH_REGIONS = 64
_SCENES_PER_SEED = 10_000  # at most: the next seed's scenes begin behind them
_FIRST_SEED = 10**12  # far beyond the seeds that a training counts through


class RegionPredictor(Protocol):
    """The part of `model.DynRefer` that is measured."""

    @property
    def card(self) -> ModelCard:
        """Name, revision, vocabulary and thresholds."""
        ...

    def plan_views(self, image_rgb_u8: NDArray[np.uint8], box: Corners) -> ViewPlan:
        """The views of the image prior."""
        ...

    def prepare(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> Sequence[Any]:
        """Image and queries -> what `run` takes, one per query."""
        ...

    def run(self, regions: Sequence[Any]) -> Sequence[Any]:
        """The network; outputs in order."""
        ...

    def finish(self, region: Any, output: Any) -> RegionDescription:
        """An output in words and scores."""
        ...


@dataclass(frozen=True)
class RegionSet:
    """The objects of some scenes, each a region with a known description; regions in the scenes' order."""

    world: World
    scenes: tuple[Scene, ...]

    @classmethod
    def draw(
        cls,
        world: World,
        sprites: SpritePack,
        split: Split,
        *,
        scenes_seed: int,
        regions: int,
        validation: bool = False,
    ) -> RegionSet:
        """Draw scenes of `split` until they hold `regions` regions; with `validation` other scenes."""
        first = _FIRST_SEED + (2 * scenes_seed + validation) * _SCENES_PER_SEED
        scenes: list[Scene] = []
        drawn = 0
        with tqdm(total=regions, desc=f"draw {split}", unit="region", disable=None) as bar:
            while drawn < regions:
                if len(scenes) == _SCENES_PER_SEED:
                    raise ConfigError(f"{regions} regions are more than {_SCENES_PER_SEED} scenes hold.")
                scenes.append(draw_scene(world, sprites, first + len(scenes), split))
                drawn += len(scenes[-1].objects)
                bar.update(len(scenes[-1].objects))
        return cls(world, tuple(scenes))

    def __len__(self) -> int:
        """R."""
        return len(self.objects)

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """What is true of the R regions."""
        return tuple(obj for scene in self.scenes for obj in scene.objects)

    @cached_property
    def categories(self) -> NDArray[np.int64]:
        """(R,) indices into the world's categories."""
        index = {category.name: i for i, category in enumerate(self.world.categories)}
        return np.array([index[obj.category] for obj in self.objects], dtype=np.int64)

    @cached_property
    def tags(self) -> NDArray[np.bool_]:
        """(R, T), in the order of the world's tags."""
        index = {tag: i for i, tag in enumerate(self.world.tags)}
        truth = np.zeros((len(self.objects), len(index)), dtype=np.bool_)
        for row, obj in enumerate(self.objects):
            truth[row, [index[tag] for tag in obj.tags]] = True
        return truth

    @cached_property
    def attributes(self) -> NDArray[np.int8]:
        """(R, A): 1, 0, or -1 where unknown, in the order of the world's attributes."""
        return np.stack([self.world.attribute_targets(obj) for obj in self.objects])


QueryOf = Callable[[Scene, SceneObject], RegionQuery]


def image_prior_views(predictor: RegionPredictor) -> Callable[[Scene, SceneObject], tuple[float, ...]]:
    """The t values that a query without a task would get, to be asked for with a part of the tasks only.

    The image prior is the policy of a query for everything; asking for its views saves the captions.
    """
    return lambda scene, obj: tuple(view.t for view in predictor.plan_views(scene.image, obj.box).views)


def describe_regions(
    predictor: RegionPredictor, regions: RegionSet, query: QueryOf, title: str
) -> Iterator[RegionDescription]:
    """Put `query` to every region, in batches that reach across scenes; answers in the regions' order."""
    with tqdm(total=len(regions), desc=title, unit="region", disable=None) as bar:
        for batch in _batches(_prepared(predictor, regions, query)):
            for region, output in zip(batch, predictor.run(batch), strict=True):
                yield predictor.finish(region, output)
            bar.update(len(batch))


def _prepared(predictor: RegionPredictor, regions: RegionSet, query: QueryOf) -> Iterator[Any]:
    for scene in regions.scenes:
        yield from predictor.prepare(scene.image, [query(scene, obj) for obj in scene.objects])


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH_REGIONS:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class Recognition:
    """What was said of R regions: task -> (R, K | T | A) float64 in the order of the world's names.

    scores: the raw values. probabilities: the calibrated ones, in [0, 1].
    """

    scores: Mapping[Task, NDArray[np.float64]]
    probabilities: Mapping[Task, NDArray[np.float64]]


def recognise(
    predictor: RegionPredictor,
    regions: RegionSet,
    views: Callable[[Scene, SceneObject], tuple[float, ...]] | None,
    tasks: Sequence[Task] = RECOGNITION,
    title: str = "recognise",
) -> Recognition:
    """Every score of every label of `tasks`; views: t values of a region, None for the tasks' priors."""
    names = world_names(regions.world)
    index = {task: {name: i for i, name in enumerate(names[task])} for task in tasks}
    everything = {task: -float("inf") for task in tasks}
    most = max(len(known) for known in predictor.card.vocabulary.values())

    def query(scene: Scene, obj: SceneObject) -> RegionQuery:
        ts = None if views is None else views(scene, obj)
        return RegionQuery(obj.box, tasks=tuple(tasks), views=ts, top_k=most, thresholds=everything)

    scores = {task: np.full((len(regions), len(index[task])), -np.inf) for task in tasks}
    probabilities = {task: np.zeros((len(regions), len(index[task]))) for task in tasks}
    for row, found in enumerate(describe_regions(predictor, regions, query, title)):
        for task in tasks:
            for label in getattr(found, task.value):
                column = index[task].get(label.name)
                if column is not None:  # a model may know more words than the world
                    scores[task][row, column] = label.score
                    probabilities[task][row, column] = label.probability
    return Recognition(scores, probabilities)


def write_captions(
    predictor: RegionPredictor, regions: RegionSet, views: tuple[float, ...] | None, title: str = "caption"
) -> list[str]:
    """A caption per region; views: the t values of all of them, None for the caption's task prior."""

    def query(scene: Scene, obj: SceneObject) -> RegionQuery:
        return RegionQuery(obj.box, tasks=(Task.CAPTION,), views=views)

    found = describe_regions(predictor, regions, query, title)
    return [each.caption.text if each.caption else "" for each in found]


def world_names(world: World) -> dict[Task, tuple[str, ...]]:
    """The names that a recognition task may answer with."""
    return {
        Task.TAGS: world.tags,
        Task.ATTRIBUTES: tuple(attribute.name for attribute in world.attributes),
        Task.CATEGORIES: tuple(category.name for category in world.categories),
    }


def check_vocabulary(predictor: RegionPredictor, world: World) -> None:
    """Raise `ConfigError` where the model cannot say what is true of the drawn world."""
    for task, names in world_names(world).items():
        missing = sorted(set(names) - set(predictor.card.vocabulary[task.value]))
        if missing:
            raise ConfigError(
                f"{predictor.card.name} does not know the drawn world: its {task.value} lack {missing[0]!r}"
                + (f" and {len(missing) - 1} more." if missing[1:] else ".")
            )
