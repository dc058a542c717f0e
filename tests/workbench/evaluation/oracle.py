"""A predictor that looks up the ground truth and errs where a test says so: its metrics are known beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.geometry import Box
from dynrefer.model.types import (
    AttributeLabel,
    Caption,
    Corners,
    Label,
    ModelCard,
    RegionDescription,
    RegionQuery,
    Task,
    View,
    ViewPlan,
    ViewPolicy,
)
from dynrefer.workbench.evaluation.drawn_regions import world_names
from dynrefer.workbench.scenes.scene import Scene, SceneObject
from dynrefer.workbench.scenes.world import World

IMAGE_PRIOR = (0.0, 0.2, 0.9)
PRIORS = {
    "caption": (0.0, 0.4, 0.5),
    "tags": (0.0, 0.1, 0.2),
    "attributes": (0.0, 0.1, 0.3),
    "categories": (0.0, 0.1, 0.5),
}
Found = tuple[RegionQuery, SceneObject]
Knows = Callable[[SceneObject, Task, tuple[float, ...]], bool]


def _key(image: NDArray[np.uint8], box: Corners) -> tuple[str, Corners]:
    return hashlib.sha256(image.tobytes()).hexdigest(), box


@dataclass
class Oracle:
    """Knows the ground truth of every scene that it is shown.

    knows: whether it answers correctly, by object, task and t values.
    """

    world: World
    knows: Knows = lambda obj, task, views: True
    tag_threshold: float = 0.5
    batches: list[int] = field(default_factory=list)
    queries: list[RegionQuery] = field(default_factory=list)
    truth: dict[tuple[str, Corners], SceneObject] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = {task.value: known for task, known in world_names(self.world).items()}
        self.card = ModelCard(
            name="oracle",
            revision="1",
            parameters=0,
            dtype="float32",
            device="cpu",
            num_views=3,
            view_size=64,
            vocabulary=names | {"tags": ("a word of its own", *self.world.tags)},
            task_priors=PRIORS,
            thresholds={"tags": self.tag_threshold, "attributes": 0.5},
            trained_on="nothing",
            intended_use="tests",
        )

    def show(self, scene: Scene) -> Scene:
        """Learn the ground truth of a scene."""
        self.truth.update({_key(scene.image, obj.box): obj for obj in scene.objects})
        return scene

    def plan_views(self, image: NDArray[np.uint8], box: Corners) -> ViewPlan:
        """The same views for all boxes; raises for a box outside the image."""
        Box(*box).clip((image.shape[1], image.shape[0]))
        views = tuple(View(t, box) for t in IMAGE_PRIOR)
        return ViewPlan(views, ViewPolicy.IMAGE_PRIOR)

    def prepare(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> list[Found]:
        """Look up."""
        self.queries.extend(queries)
        return [(query, self.truth[_key(image, query.box)]) for query in queries]

    def run(self, regions: Sequence[Found]) -> list[None]:
        """Nothing to compute."""
        self.batches.append(len(regions))
        return [None] * len(regions)

    def finish(self, region: Found, output: None) -> RegionDescription:
        """Correct or wrong labels, as `knows` says; every score is .9 or .1."""
        query, obj = region
        names = world_names(self.world)
        right: dict[Task, set[str]] = {
            Task.CATEGORIES: {obj.category},
            Task.TAGS: set(obj.tags),
            Task.ATTRIBUTES: {f"{kind}:{value}" for kind, value in obj.attributes.items()},
        }
        labels: dict[Task, tuple[Label, ...]] = {}
        for task in query.tasks or ():
            if task is not Task.CAPTION:
                correct = self.knows(obj, task, query.views or PRIORS[task])
                scores = {name: 0.9 if (name in right[task]) is correct else 0.1 for name in names[task]}
                ranked = sorted(scores, key=lambda name: -scores[name])
                labels[task] = tuple(Label(name, scores[name], scores[name]) for name in ranked)[: query.top_k]
        correct = self.knows(obj, Task.CAPTION, query.views or PRIORS["caption"])
        text = obj.captions[0] if correct else "a thing without any relation"
        attributes = tuple(
            AttributeLabel(x.name, x.name.split(":")[0], x.name.split(":")[1], x.score, x.probability)
            for x in labels.get(Task.ATTRIBUTES, ())
        )
        return RegionDescription(
            box=query.box,
            clipped=False,
            plan=None,
            plans={},
            results={
                Task.CAPTION: Caption(text, 1.0, 0.0, 0.0) if Task.CAPTION in (query.tasks or ()) else None,
                Task.TAGS: labels.get(Task.TAGS),
                Task.ATTRIBUTES: attributes or None,
                Task.CATEGORIES: labels.get(Task.CATEGORIES),
            },
        )
