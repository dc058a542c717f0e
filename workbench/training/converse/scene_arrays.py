"""What is seen of a scene as the network takes it in training: in random order, disturbed a little, sometimes blind.

Shapes: as in `seen.py`; S = objects of a scene with the image itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.networks.converse.embedded.reading import Slots
from dynrefer.model.suppression import overlaps
from dynrefer.workbench.training.converse.perceived import PerceivedScene

_MOST_OBJECTS = 20
_LEAST_OVERLAP = 0.5  # of a seen object's box with the true one
_BLIND = 0.2  # how often a scene comes without representations
_NAMELESS = 0.5  # of these: how often what it shows has no name in the describer's list, as in photographs
_NAMELESS_OBJECTS = 0.8  # of the objects of such a scene


@dataclass(frozen=True, slots=True, eq=False)
class Disturbance:
    """What a scene is deprived of. blind: of representations. nameless: (N,) bool, of the image's objects and its true
    ones: of the categories that it shows. Nouns of the question still match it, as evidence of photographs does."""

    blind: bool
    nameless: NDArray[np.bool_]

    @classmethod
    def drawn(cls, scene: PerceivedScene, rng: np.random.Generator | None) -> Disturbance:
        """A random one. rng: None: none."""
        count = len(scene.image.objects) + len(scene.regions)
        blind = rng is not None and bool(rng.random() < _BLIND)
        if rng is None or not blind or rng.random() >= _NAMELESS:
            return cls(blind, np.zeros(count, bool))
        return cls(blind, rng.random(count) < _NAMELESS_OBJECTS)


def nearest_objects(scene: PerceivedScene) -> NDArray[np.int64]:
    """For each true object the seen one with the most overlap, and -1 where that is too little."""
    seen = scene.image.objects.boxes[:_MOST_OBJECTS]
    if not len(seen):
        return np.full(len(scene.regions), -1, np.int64)
    shared = overlaps(scene.regions.boxes, seen)
    return np.where(shared.max(axis=1) >= _LEAST_OVERLAP, shared.argmax(axis=1), -1)


def object_order(scene: PerceivedScene, rng: np.random.Generator | None) -> NDArray[np.int64]:
    """The seen objects in the order in which the network gets them. rng: None: as they were seen."""
    count = min(len(scene.image.objects), _MOST_OBJECTS)
    return np.arange(count) if rng is None else rng.permutation(count)


def referents(scene: PerceivedScene) -> dict[str, NDArray[np.float32]]:
    """A row of nothing, the image's objects, the true ones. Boxes in units of the image's longest side."""
    objects, regions = scene.image.objects, scene.regions
    found = {}
    for name in ("features", "categories", "attributes", "boxes", "objectness"):
        seen, true = getattr(objects, name), getattr(regions, name)
        found[name] = np.concatenate([np.zeros_like(true[:1]), seen, true]).astype(np.float32)
    found["boxes"] /= max(scene.image.size)
    return found


def seen_objects(
    scene: PerceivedScene,
    order: NDArray[np.int64],
    size: int,
    disturbance: Disturbance,
    rng: np.random.Generator | None,
) -> Slots:
    """The objects of a scene in this order, padded to `size` with the image itself last."""
    image = scene.image
    longest = max(image.size)
    frame = np.array(image.size, np.float32) / longest
    count = len(order)

    def filled(values: NDArray[np.float32], last: NDArray[np.float32]) -> Tensor:
        rows = np.zeros((1, size, values.shape[1]), np.float32)
        rows[0, :count], rows[0, -1] = values[order], last
        return torch.from_numpy(rows)

    objects = image.objects
    boxes = objects.boxes / longest
    sure = objects.objectness.copy()
    features, whole = objects.features, image.features
    if rng is not None:
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], (1, 2))
        boxes = boxes + sides * rng.normal(0, 0.015, boxes.shape).astype(np.float32)
        sure = np.clip(sure + rng.normal(0, 0.02, sure.shape), 0.05, 1).astype(np.float32)
        features = features + rng.normal(0, 0.1 * features.std() + 1e-6, features.shape).astype(np.float32)
    if disturbance.blind:
        features, whole = features * 0, whole * 0
    nothing = np.zeros(objects.categories.shape[1], np.float32)
    mask = np.zeros((1, size), bool)
    mask[0, :count] = mask[0, -1] = True
    ends = np.zeros((1, size), bool)
    ends[0, -1] = True
    surely = np.zeros((1, size), np.float32)
    surely[0, :count], surely[0, -1] = sure[order], 1.0
    named = ~disturbance.nameless[: len(objects), None]
    tags = image.tags if disturbance.nameless.sum() == 0 else np.zeros_like(image.tags)
    return Slots(
        filled(features, whole),
        filled(objects.categories * named, nothing),
        filled(objects.attributes, np.zeros(objects.attributes.shape[1], np.float32)),
        filled(boxes.astype(np.float32), np.array([0, 0, *frame], np.float32)),
        torch.from_numpy(frame[None]),
        torch.from_numpy(surely),
        torch.from_numpy(mask),
        torch.from_numpy(ends),
        torch.from_numpy(tags[None].astype(np.float32)),
        filled(objects.categories, nothing),
    )


def stacked(parts: Sequence[Slots]) -> Slots:
    return Slots(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Slots)})
