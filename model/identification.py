"""What the object of each region is, decided before the tasks run, so that all outputs say the same name.

Only for models whose language model writes a placeholder for the noun: with evidence of photographs, a gate decides per
region who speaks, the evidence or the network's best category. Each region is decided on its own.

Shapes: R = inputs, Q = region tokens, C = channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.cache import Digest, FeatureCache
from dynrefer.model.evidence.cutting import EvidenceCrops
from dynrefer.model.evidence.evidence import Evidence, Sighting, of_drawing
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.kernels.transfers import upload
from dynrefer.model.preparation import RegionInput
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.tasks.scoring import Floats, rows_on_cpu
from dynrefer.model.types import Task

CATEGORIES = CategoriesTask()


def identify(
    loaded: LoadedModel, region: Tensor, inputs: Sequence[RegionInput], cache: FeatureCache
) -> list[Identity | None]:
    """One identity per input, the same for all inputs of a region; None where the model does not decide it first.

    region: (R, Q, C). cache: its `sightings` keep what tower and detector saw of a crop.
    """

    def categories(rows: Sequence[int]) -> list[Floats]:
        some = region if len(rows) == len(region) else region[upload(torch.tensor(rows), region.device)]
        return rows_on_cpu(CATEGORIES.logits(loaded, some))

    return identify_by(loaded, categories, inputs, cache)


def identify_by(
    loaded: LoadedModel,
    category_logits: Callable[[Sequence[int]], Sequence[Floats]],
    inputs: Sequence[RegionInput],
    cache: FeatureCache,
) -> list[Identity | None]:
    """`identify`, where somebody else scores the categories. category_logits: of the inputs at these indices."""
    if loaded.network.config.noun_placeholder is None:
        return [None] * len(inputs)
    deciding = _deciding_inputs(inputs)
    rows = sorted(set(deciding))
    if not rows:
        return []
    categories = np.stack([CATEGORIES.probabilities(loaded, row) for row in category_logits(rows)])
    identities = [of_drawing(row, loaded.vocabulary.categories) for row in categories]
    places = [place for place, row in enumerate(rows) if inputs[row].evidence is not None]
    crops = [each for place in places if (each := inputs[rows[place]].evidence) is not None]
    if loaded.evidence is not None and crops:
        sightings = _look(loaded.evidence, crops, loaded.network.config.revision, cache)
        found = loaded.evidence.identify(crops, sightings, categories[places], loaded.vocabulary.categories)
        for place, identity in zip(places, found, strict=True):
            identities[place] = identity
    place_of = {row: place for place, row in enumerate(rows)}
    return [identities[place_of[row]] for row in deciding]


def _deciding_inputs(inputs: Sequence[RegionInput]) -> list[int]:
    """For each input, the index of the one that decides for its region: that of the categories, else the first.

    Inputs of one region share their evidence crops, as one object; an input without any decides for itself.
    """
    chosen: dict[int, int] = {}
    for index, each in enumerate(inputs):
        key = id(each.evidence)
        if each.evidence is not None and (key not in chosen or Task.CATEGORIES in each.tasks):
            chosen[key] = index
    return [index if each.evidence is None else chosen[id(each.evidence)] for index, each in enumerate(inputs)]


def _look(evidence: Evidence, crops: Sequence[EvidenceCrops], revision: str, cache: FeatureCache) -> list[Sighting]:
    """One sighting per region; those that are cached are not computed again."""
    if not cache.sightings.capacity:
        return evidence.look(crops)
    keys = [_digest(revision, each) for each in crops]
    found = {key: cache.sightings.get(key) for key in dict.fromkeys(keys)}
    missing = [key for key, value in found.items() if value is None]
    for key, seen in zip(missing, evidence.look([crops[keys.index(key)] for key in missing]), strict=True):
        found[key] = seen
        cache.sightings.put(key, seen, seen.nbytes)
    return [known for key in keys if (known := found[key]) is not None]


def _digest(revision: str, crops: EvidenceCrops) -> Digest:
    digest = hashlib.sha256(revision.encode())
    for part in (crops.crop, crops.image, crops.windows, crops.boxes):
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()
