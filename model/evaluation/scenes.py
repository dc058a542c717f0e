"""Drawn test regions: which scenes, what is true of them, and what a predictor says of them.

Seeds: training draws from the split "train" only, a random stream of its own; validation (for tuning) and
test never share a scene, whatever their `scenes_seed` is.
Letters: R regions, K categories, T tags, A attributes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.errors import ConfigError
from model.records import Corners, ModelCard, RegionDescription, RegionQuery, Task, ViewPlan, ViewPolicy
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


@dataclass(frozen=True)
class Question:
    """What is asked about every region. views: the same t values for all, or the policy that chooses them."""

    tasks: tuple[Task, ...]
    views: tuple[float, ...] | Literal[ViewPolicy.IMAGE_PRIOR, ViewPolicy.TASK_PRIOR]

    def query(self, predictor: RegionPredictor, scene: Scene, obj: SceneObject) -> RegionQuery:
        """The query for one region: every label of the tasks, however unlikely."""
        views = self.views if isinstance(self.views, tuple) else None
        if self.views is ViewPolicy.IMAGE_PRIOR:
            # A query without tasks would get these views, but would pay for all four tasks.
            views = tuple(view.t for view in predictor.plan_views(scene.image, obj.box).views)
        return RegionQuery(
            obj.box,
            tasks=self.tasks,
            views=views,
            top_k=max(len(names) for names in predictor.card.vocabulary.values()),
            thresholds={task: -float("inf") for task in RECOGNITION},
        )


class Answers:
    """What was said of R regions, row by row.

    scores, probabilities: task -> (R, K | T | A) float64 in the order of the world's names; raw values, and
    calibrated ones in [0, 1]. captions: R texts, or none where captions were not asked for.
    """

    def __init__(self, question: Question, regions: RegionSet) -> None:
        """No row is filled yet."""
        names = {task: known for task, known in world_names(regions.world).items() if task in question.tasks}
        self._column = {task: {name: i for i, name in enumerate(known)} for task, known in names.items()}
        self.scores = {task: np.full((len(regions), len(known)), -np.inf) for task, known in names.items()}
        self.probabilities = {task: np.zeros((len(regions), len(known))) for task, known in names.items()}
        self.captions: list[str] = []

    def add(self, row: int, found: RegionDescription) -> None:
        """Fill a row; rows come in order."""
        for task, columns in self._column.items():
            for label in getattr(found, task.value):
                column = columns.get(label.name)
                if column is not None:  # a model may know more words than the world
                    self.scores[task][row, column] = label.score
                    self.probabilities[task][row, column] = label.probability
        if found.caption is not None:
            self.captions.append(found.caption.text)


def ask(predictor: RegionPredictor, regions: RegionSet, questions: Sequence[Question], title: str) -> list[Answers]:
    """Put every question to every region, in batches that reach across scenes; the answers per question.

    Questions that are asked together share their view encodings, above all t = 0.
    """
    answers = [Answers(question, regions) for question in questions]
    asked = 0
    with tqdm(total=len(regions) * len(questions), desc=title, unit="answer", disable=None) as bar:
        for batch in _batches(_prepared(predictor, regions, questions)):
            for region, output in zip(batch, predictor.run(batch), strict=True):
                row, which = divmod(asked, len(questions))
                answers[which].add(row, predictor.finish(region, output))
                asked += 1
            bar.update(len(batch))
    return answers


def _prepared(predictor: RegionPredictor, regions: RegionSet, questions: Sequence[Question]) -> Iterator[Any]:
    for scene in regions.scenes:
        queries = [each.query(predictor, scene, obj) for obj in scene.objects for each in questions]
        yield from predictor.prepare(scene.image, queries)


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, BATCH_REGIONS)):
        yield batch


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
