"""One batch on the device: views of any number of regions -> representations -> whatever their tasks ask for.

Letters: N distinct views, P inputs (a region with one view plan), V views of a pass, T texts, K captions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.cache import ByteCache, Digest, region_digest
from dynrefer.model.crops import ViewBatch
from dynrefer.model.errors import StoppedError
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.dynrefer.decoders import synonym_maximum
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from dynrefer.model.postprocessing import GeneratedCaption, RawOutputs, control_words
from dynrefer.model.types import Task, ViewPlan


@dataclass(frozen=True, slots=True)
class RegionInput:
    """A region looked at with one plan, for the tasks that share it."""

    plan: ViewPlan
    tasks: tuple[Task, ...]
    views: ViewBatch
    controls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """findings: per pass, in order. timings_ms: of the batch by stage (vision, heads, caption). parts_ms: the same
    time in finer parts (encode, represent, tags, attributes, categories, caption)."""

    findings: list[RawOutputs]
    timings_ms: dict[str, float]
    parts_ms: dict[str, float]


_STAGE_OF_PART = {
    "encode": "vision",
    "represent": "vision",
    "tags": "heads",
    "attributes": "heads",
    "categories": "heads",
    "caption": "caption",
}

# Of control words: whole vectors of padding add nothing to a sum, a part of one shifts what is added when.
_CONTROL_MULTIPLE = 16


class FeatureCache:
    """What a predictor remembers between batches, within one bound in bytes; 0 remembers nothing.

    Representations are small and save everything up to the heads; view features are large and save the encoding of a
    view that another region shares. Each may take up to half of the bytes.
    """

    def __init__(self, capacity: int) -> None:
        self.views: ByteCache[VisionFeatures] = ByteCache(capacity // 2)
        self.regions: ByteCache[Tensor] = ByteCache(capacity - capacity // 2)

    def clear(self) -> bool:
        """Give the device its memory back. Whether there was any to give."""
        held = bool(self.views.stats.entries or self.regions.stats.entries)
        self.views.clear()
        self.regions.clear()
        return held


class _Clock:
    """Times of the stages in milliseconds; waits for the device, so that a stage pays for its own work.

    Between two stages it asks `should_stop` and raises `StoppedError` if told so.
    """

    def __init__(self, device: torch.device, should_stop: Callable[[], bool] | None) -> None:
        self._device, self._should_stop, self._last = device, should_stop, time.perf_counter()
        self.timings: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.timings[stage] = self.timings.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now
        if self._should_stop and self._should_stop():
            raise StoppedError("nobody waits for the batch any more.")


@torch.inference_mode()
def run_batch(
    loaded: LoadedModel,
    inputs: Sequence[RegionInput],
    cache: FeatureCache,
    should_stop: Callable[[], bool] | None = None,
) -> BatchResult:
    """One batch.

    should_stop: asked between stages and between caption tokens. Raises `StoppedError`.
    """
    clock = _Clock(loaded.device, should_stop)
    region = _represent(loaded, inputs, cache, clock)
    captioned = [i for i, each in enumerate(inputs) if Task.CAPTION in each.tasks]
    # A caption takes up the tags that were found, so it needs them whether or not they are asked for.
    tags = _logits(loaded, region, inputs, {Task.TAGS, Task.CAPTION})
    clock.lap("tags")
    attributes = _logits(loaded, region, inputs, {Task.ATTRIBUTES})
    clock.lap("attributes")
    categories = _logits(loaded, region, inputs, {Task.CATEGORIES})
    clock.lap("categories")
    captions = _captions(loaded, region, inputs, captioned, tags, should_stop)
    clock.lap("caption")
    findings = [
        RawOutputs(tags.get(i), attributes.get(i), categories.get(i), captions.get(i)) for i in range(len(inputs))
    ]
    timings = dict.fromkeys(_STAGE_OF_PART.values(), 0.0)
    for part, spent in clock.timings.items():
        timings[_STAGE_OF_PART[part]] += spent
    return BatchResult(findings, timings, clock.timings)


def _represent(loaded: LoadedModel, inputs: Sequence[RegionInput], cache: FeatureCache, clock: _Clock) -> Tensor:
    """(P, Q, C) float32. What is the same, in this batch or in cache, is computed once."""
    revision = f"{loaded.network.config.revision} {loaded.dtype}"
    keys = [region_digest(revision, each.views.digests, each.views.boxes) for each in inputs]
    found = {key: cache.regions.get(key) for key in dict.fromkeys(keys)}
    missing = [key for key, value in found.items() if value is None]
    computed = _compute(loaded, [inputs[keys.index(key)] for key in missing], revision, cache, clock)
    found |= dict(zip(missing, computed, strict=True))
    if cache.regions.capacity:
        for place in _sound(computed):
            own = computed[place].clone()  # not a part of the batch
            cache.regions.put(missing[place], own, own.nbytes)
    if len(missing) < len(keys):
        computed = torch.stack([row for key in keys if (row := found[key]) is not None])
    clock.lap("represent")
    return computed


def _compute(
    loaded: LoadedModel, inputs: Sequence[RegionInput], revision: str, cache: FeatureCache, clock: _Clock
) -> Tensor:
    """Representations of inputs that are all different, (P, Q, C)."""
    config = loaded.network.config
    if not inputs:
        return torch.empty(0, config.num_queries, config.qformer_config.hidden_size, device=loaded.device)
    features = _encode(loaded, inputs, revision, cache)
    clock.lap("encode")
    boxes = torch.from_numpy(np.stack([each.views.boxes for each in inputs])).to(loaded.device)
    return loaded.network.represent_in_parts(features, boxes)


def _encode(loaded: LoadedModel, inputs: Sequence[RegionInput], revision: str, cache: FeatureCache) -> VisionFeatures:
    """Features of all views of the inputs, in order; those that are the same are encoded once."""
    index, images = list[Digest](), dict[Digest, NDArray[np.uint8]]()
    for each in inputs:
        for digest, image in zip(each.views.digests, each.views.images, strict=True):
            index.append(digest)
            images.setdefault(digest, image)
    keys = {digest: revision.encode() + digest for digest in images}
    held = {digest: cache.views.get(keys[digest]) for digest in images}
    new = [digest for digest, features in held.items() if features is None]
    parts = [features for features in held.values() if features is not None]
    if new:
        stacked = torch.from_numpy(np.stack([images[each] for each in new]))
        encoded = loaded.network.encode_in_parts(stacked.to(loaded.device))
        parts.append(encoded)
        for place in _sound(encoded.map, encoded.cls) if cache.views.capacity else ():
            one = encoded.at(place)
            cache.views.put(keys[new[place]], one, one.nbytes)
    order = [digest for digest, features in held.items() if features is not None] + new
    if order == index:
        return VisionFeatures.join(parts)
    places = {digest: place for place, digest in enumerate(order)}
    rows = torch.tensor([places[digest] for digest in index], device=loaded.device)
    return VisionFeatures.join(parts).take(rows)


def _sound(values: Tensor, others: Tensor | None = None) -> list[int]:
    """The rows without NaN or infinity: a device's passing fault must not be remembered."""
    finite = values.isfinite().flatten(1).all(dim=1)
    if others is not None:
        finite &= others.isfinite().all(dim=1)
    rows: list[int] = finite.nonzero().flatten().tolist()
    return rows


def _logits(
    loaded: LoadedModel, region: Tensor, inputs: Sequence[RegionInput], tasks: set[Task]
) -> dict[int, NDArray[np.float32]]:
    """Pass -> logits over the task's vocabulary, for the inputs that need them."""
    rows = [i for i, each in enumerate(inputs) if tasks & set(each.tasks)]
    if not rows:
        return {}
    some = _rows(region, rows)
    network, texts = loaded.network, loaded.prepared
    if Task.TAGS in tasks:
        logits = network.tag_decoder.score(some, texts.tags)
    elif Task.ATTRIBUTES in tasks:
        prompts = network.region_text_decoder.score(some, texts.attributes)
        logits = synonym_maximum(prompts, texts.attribute_owner, len(loaded.vocabulary.attributes))
    else:
        logits = network.region_text_decoder.score(some, texts.categories)
    return dict(zip(rows, logits.float().cpu().numpy(), strict=True))


def _rows(region: Tensor, rows: Sequence[int]) -> Tensor:
    return region if len(rows) == len(region) else region[torch.tensor(rows, device=region.device)]


def _captions(
    loaded: LoadedModel,
    region: Tensor,
    inputs: Sequence[RegionInput],
    rows: Sequence[int],
    tags: dict[int, NDArray[np.float32]],
    should_stop: Callable[[], bool] | None,
) -> dict[int, GeneratedCaption]:
    if not rows:
        return {}
    words = [control_words(loaded, tags[i], inputs[i].controls) for i in rows]
    ids = loaded.language_tokenizer(
        words,
        padding=True,
        pad_to_multiple_of=_CONTROL_MULTIPLE,
        truncation=True,
        max_length=loaded.network.config.max_control_tokens,
        return_tensors="pt",
    ).to(loaded.device)
    some = _rows(region, rows)
    found = loaded.network.language.generate(some, ids.input_ids, ids.attention_mask, should_stop)
    columns = (found.tokens.cpu().tolist(), found.score.tolist(), found.logprob_sum.tolist(), found.length.tolist())
    return {
        i: GeneratedCaption(tuple(tokens), score, total, length)
        for i, tokens, score, total, length in zip(rows, *columns, strict=True)
    }
