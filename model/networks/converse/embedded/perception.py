"""Perception, without training of its own: the finder proposes objects, the describer says what each of them is.

Everything about an image that a question can need is found once, whatever is asked. Crops are cut here, on the device's
thread, from the turn's pixels, which are bounded. Shapes: as in `seen.py`; V = views of a region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dynrefer.model.cache import FeatureCache
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.labels import photograph_attributes
from dynrefer.model.geometry import ImageSize
from dynrefer.model.identification import identify
from dynrefer.model.networks.converse.embedded.seen import Floats, SeenImage, SeenObjects
from dynrefer.model.networks.converse.embedded.tiles import find_objects
from dynrefer.model.preparation import PreparationSpec
from dynrefer.model.representation import represent
from dynrefer.model.suppression import suppress
from dynrefer.model.tasks.attributes import AttributesTask
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.tasks.scoring import sigmoid
from dynrefer.model.tasks.tags import TagsTask
from dynrefer.model.types import RegionQuery, Task

if TYPE_CHECKING:
    from dynrefer.model.finding import Finder
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.preparation import RegionInput

MOST_OBJECTS = 20
LEAST_OBJECTNESS = 0.1  # of an object that is looked at; how sure the finder was is told to the network
_APART = 0.6  # boxes that overlap by more are one object
_VIEWS = (0.0, 0.1, 0.2)  # t of the views
_WORTH_TWO_LOOKS = 0.3  # objectness from which a drawn object is also seen in a mirror: two points more of right names
_SURELY_DRAWN = 0.15  # below this probability of a photograph, nobody looks for what photographs show


def sizes_of(loaded: LoadedModel) -> Mapping[str, int]:
    """What a converser has to fit: the describer's categories, attributes, tags and channels."""
    vocabulary = loaded.vocabulary
    lists = {"categories": vocabulary.categories, "attributes": vocabulary.attributes, "tags": vocabulary.tags}
    sizes = {name: len(words) for name, words in lists.items()}
    return sizes | {"channels": int(loaded.network.config.qformer_config.hidden_size)}


@dataclass(frozen=True)
class _Scores:
    """features: (N, C). categories: (N, K), attributes: (N, A), tags: (N, T) probabilities."""

    features: Floats
    categories: Floats
    attributes: Floats
    tags: Floats

    def average(self, rows: NDArray[np.int64], other: _Scores) -> None:
        """Take the mean with another look at these rows: of categories the geometric one."""
        both = np.sqrt(self.categories[rows] * other.categories)
        self.categories[rows] = both / np.maximum(both.sum(axis=1, keepdims=True), 1e-12)
        for own, more in ((self.features, other.features), (self.attributes, other.attributes)):
            own[rows] = (own[rows] + more) / 2


@dataclass(frozen=True)
class _Looked:
    objects: SeenObjects
    tags: Floats  # (N, T) probabilities


class Perceiver:
    """For the device's thread. loaded: the describer. finder: proposes objects. tiled: whether a large image is also
    searched in tiles, so that small objects are found."""

    def __init__(self, loaded: LoadedModel, finder: Finder, *, tiled: bool = True) -> None:
        config = loaded.network.config
        self._loaded, self._finder, self.tiled = loaded, finder, tiled
        views = config.num_views
        self._views = (_VIEWS * views)[:views] if views <= len(_VIEWS) else _VIEWS + (_VIEWS[-1],) * (views - 3)
        priors = {task: tuple(ts) for task, ts in config.task_priors.items()}
        self._spec = PreparationSpec(views, config.view_size, priors, evidence=loaded.evidence is not None)
        self._nothing = FeatureCache(0, 0)

    def image(self, pixels: NDArray[np.uint8], size: ImageSize) -> SeenImage:
        """pixels: (h, w, 3) uint8 RGB, all of an image of `size` (W, H), perhaps reduced."""
        found = find_objects(self._finder, pixels, tiled=self.tiled)
        kept = suppress(found.boxes, found.objectness, _APART)
        kept = kept[found.objectness[kept] >= LEAST_OBJECTNESS][:MOST_OBJECTS]
        height, width = pixels.shape[:2]
        whole = np.array([[0, 0, width, height]], np.float32)
        boxes = np.concatenate([found.boxes[kept], whole])
        sure = np.append(found.objectness[kept], np.float32(1))
        looked = self._look(pixels, boxes, sure, size, found.photograph)
        objects, last = looked.objects, len(kept)
        own = replace(
            objects,
            boxes=objects.boxes[:last],
            objectness=objects.objectness[:last],
            features=objects.features[:last],
            categories=objects.categories[:last],
            attributes=objects.attributes[:last],
            identities=objects.identities[:last],
        )
        return SeenImage(size, own, objects.features[last], looked.tags[last], found.photograph)

    def regions(
        self, pixels: NDArray[np.uint8], size: ImageSize, boxes: Sequence[Sequence[float]], photograph: float
    ) -> SeenObjects:
        """Asked regions of the image. boxes: xyxy pixels of the upright image. photograph: as in `SeenImage`."""
        height, width = pixels.shape[:2]
        scale = np.array([width / size[0], height / size[1]] * 2, np.float32)
        scaled = np.asarray(boxes, np.float32).reshape(-1, 4) * scale
        return self._look(pixels, scaled, np.ones(len(scaled), np.float32), size, photograph).objects

    @torch.inference_mode()
    def _look(
        self, pixels: NDArray[np.uint8], boxes: Floats, objectness: Floats, size: ImageSize, photograph: float
    ) -> _Looked:
        """boxes: (N, 4) in pixels of `pixels`; those of what is returned are in pixels of the upright image."""
        height, width = pixels.shape[:2]
        drawn = photograph < _SURELY_DRAWN
        representation, inputs = self._represent(pixels, boxes, evidence=not drawn)
        scores = self._scores(representation)
        sure = np.flatnonzero(objectness >= _WORTH_TWO_LOOKS)
        if drawn and len(sure):
            x1, y1, x2, y2 = boxes[sure].T
            turned = np.stack([width - x2, y1, width - x1, y2], axis=1)
            mirrored, _ = self._represent(np.ascontiguousarray(pixels[:, ::-1]), turned, evidence=False)
            scores.average(sure, self._scores(mirrored))
        identities = () if drawn else self._identities(representation, inputs)
        for row, identity in enumerate(identities):
            if identity.photograph:
                own = scores.attributes[row]
                scores.attributes[row] = photograph_attributes(identity, self._loaded.vocabulary.attributes, own)
                scores.categories[row] = self._as_categories(identity.name, identity.probability)
        to_upright = np.array([size[0] / width, size[1] / height] * 2, np.float32)
        seen = SeenObjects(
            (boxes * to_upright).astype(np.float32),
            objectness.astype(np.float32),
            scores.features,
            scores.categories.astype(np.float32),
            scores.attributes.astype(np.float32),
            identities,
        )
        return _Looked(seen, scores.tags)

    def _represent(
        self, pixels: NDArray[np.uint8], boxes: Floats, *, evidence: bool
    ) -> tuple[torch.Tensor, list[RegionInput]]:
        """Representations (N, Q, C) of boxes in the pixels, and what they were made of."""
        spec = replace(self._spec, evidence=self._spec.evidence and evidence)
        queries = [
            RegionQuery(box=corners, tasks=(Task.CATEGORIES,), views=self._views)
            for corners in _inside(boxes, pixels.shape[1], pixels.shape[0])
        ]
        inputs = [each.inputs[0] for each in spec.prepare_each(pixels, queries)]
        representation, _ = represent(self._loaded, inputs, self._nothing, lambda part: None)
        return representation, inputs

    def _scores(self, representation: torch.Tensor) -> _Scores:
        inference = self._loaded.inference
        categories = inference.score_categories(representation).float().cpu().numpy()
        attributes = inference.score_attributes(representation).float().cpu().numpy()
        tags = inference.score_tags(representation).float().cpu().numpy()
        return _Scores(
            representation.mean(dim=1).float().cpu().numpy(),
            np.stack([CategoriesTask().probabilities(self._loaded, row) for row in categories]),
            sigmoid(AttributesTask().calibrated(self._loaded, attributes)),
            sigmoid(TagsTask().calibrated(self._loaded, tags)),
        )

    def _identities(self, representation: torch.Tensor, inputs: Sequence[RegionInput]) -> tuple[Identity, ...]:
        found = identify(self._loaded, representation, inputs, self._nothing)
        return tuple(each for each in found if each is not None)

    def _as_categories(self, name: str, probability: float) -> Floats:
        """(K,) the drawn categories that a name of photographs is among."""
        row = np.zeros(len(self._loaded.vocabulary.categories), np.float32)
        placement = self._loaded.asked_words.placement
        if placement is not None:
            (placed,) = placement.place([name])
            row[placed.drawn.places] = placed.drawn.values * probability
        return row


def _inside(boxes: Floats, width: int, height: int) -> list[tuple[float, float, float, float]]:
    """Boxes at least one pixel wide and high, inside the image."""
    found = []
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = min(max(x1, 0.0), width - 1.0), min(max(y1, 0.0), height - 1.0)
        found.append((left, top, max(min(x2, width), left + 1.0), max(min(y2, height), top + 1.0)))
    return found
