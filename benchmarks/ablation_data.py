"""The ablation's variants, and their batches: regions of drawn scenes with the views of a variant.

Shapes: R = regions, V = views per region, S = view side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.geometry import Box, boxes_in_views, boxes_towards, integer_crops
from dynrefer.model.types import Corners
from dynrefer.model.views import STEPS, GreyImage, greedy_picks, search_candidates
from dynrefer.workbench.scenes.scene import Scene, SceneObject
from dynrefer.workbench.training.embedded.drawn_batches import RegionBatch, SceneBatches

ViewRule = Literal["none", "fixed", "random", "image prior"]
_JITTER = 0.06  # relative to the box's side, as in the training of the embedded model


@dataclass(frozen=True)
class Variant:
    """One trained network, and the ways it is evaluated.

    views: V. region: whether t = 0 is one of them. rule: how the other views are chosen in training. evaluations: name
    -> rule in evaluation. without: loss terms that are left out.
    """

    name: str
    views: int
    rule: ViewRule
    evaluations: tuple[tuple[str, ViewRule], ...]
    without: tuple[str, ...] = ()
    region: bool = True


@dataclass(frozen=True)
class Length:
    """steps: of training. scenes: per batch. pool: training scenes. regions: number that is measured at the end."""

    steps: int
    scenes: int
    pool: int
    regions: int


def choose_views(variant: Variant, rule: ViewRule, rng: np.random.Generator, scene: Scene, box: Corners) -> list[float]:
    """The t values of a region, V of them."""
    others = variant.views - variant.region
    if rule == "fixed":
        chosen = [round(step / others, 1) for step in range(1, others + 1)]
    elif rule == "image prior":
        height, width = scene.image.shape[:2]
        found = search_candidates(GreyImage(scene.image), Box(*box).clip((width, height)))
        chosen = [found[pick].t for pick in greedy_picks([each.gain for each in found], others)]
    else:
        chosen = rng.choice(STEPS, others, replace=False).tolist()
    return [0.0, *chosen] if variant.region else chosen


def cut(
    scene: Scene, box: Corners, ts: Sequence[float], view_size: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """The views at `ts`: V arrays of (3, S, S) uint8, and the region's box in each, (V, 4) float32, view pixels."""
    size = (scene.image.shape[1], scene.image.shape[0])
    crops = integer_crops(boxes_towards(box, size, (0.0, *ts)), size)  # the region first: the others are relative to it
    views = []
    for x1, y1, x2, y2 in crops[1:].tolist():
        crop = Image.fromarray(scene.image[y1:y2, x1:x2])
        resized = crop.resize((view_size, view_size), Image.Resampling.BICUBIC)
        views.append(np.asarray(resized).transpose(2, 0, 1))
    return views, boxes_in_views(crops, view_size)[1:]


class VariantData(SceneBatches):
    """Every object of a scene as a region, with the views of a variant. A batch is a function of (seed, index)."""

    def __init__(self, variant: Variant, *given: Any) -> None:
        """given: as `SceneBatches`."""
        super().__init__(*given)
        self.variant = variant

    def __getitem__(self, index: int) -> RegionBatch:
        rng = np.random.default_rng((self.options.seed, index))
        images: list[NDArray[np.uint8]] = []
        boxes: list[NDArray[np.float32]] = []
        objects: list[SceneObject] = []
        for scene in self._scenes(rng):
            for obj in scene.objects:
                ts = choose_views(self.variant, self.variant.rule, rng, scene, obj.box)
                views, inside = cut(scene, _jittered(scene, obj.box, rng), ts, self.view_size)
                images += views
                boxes.append(inside)
                objects.append(obj)
        views_of = torch.arange(len(images)).view(len(objects), -1)
        return self._regions(torch.from_numpy(np.stack(images)), views_of, boxes, objects, rng)


def _jittered(scene: Scene, box: Corners, rng: np.random.Generator) -> Corners:
    x1, y1, x2, y2 = box
    height, width = scene.image.shape[:2]
    shift = rng.uniform(-_JITTER, _JITTER, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
    a, b, c, d = np.clip(np.array(box) + shift, 0, (width, height, width, height)).tolist()
    return a, b, c, d
