"""One batch on the device: views of any number of regions -> representations -> whatever their tasks ask for.

Letters: N distinct views, P passes (a region with one view plan), V views of a pass, T texts, K captions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.answers import CaptionFinding, Findings, control_words
from model.errors import StoppedError
from model.geometry import integer_crops
from model.loading import LoadedModel
from model.network.decoders import synonym_maximum
from model.preprocess import ViewBatch
from model.records import Task, ViewPlan

_Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """A region looked at with one plan, for the tasks that share it. image: number of the image it was cut from."""

    plan: ViewPlan
    tasks: tuple[Task, ...]
    views: ViewBatch
    image: int
    controls: tuple[str, ...]


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
def run_passes(
    loaded: LoadedModel, passes: Sequence[Pass], should_stop: Callable[[], bool] | None = None
) -> tuple[list[Findings], dict[str, float]]:
    """Findings per pass, in order, and the stage times (vision, heads, caption) of the batch in milliseconds.

    should_stop: asked between stages and between caption tokens. Raises `StoppedError`.
    """
    clock = _Clock(loaded.device, should_stop)
    region = _represent(loaded, passes)
    clock.lap("vision")
    captioned = [i for i, each in enumerate(passes) if Task.CAPTION in each.tasks]
    # A caption takes up the tags that were found, so it needs them whether or not they are asked for.
    tags = _logits(loaded, region, passes, {Task.TAGS, Task.CAPTION})
    attributes = _logits(loaded, region, passes, {Task.ATTRIBUTES})
    categories = _logits(loaded, region, passes, {Task.CATEGORIES})
    clock.lap("heads")
    captions = _captions(loaded, region, passes, captioned, tags, should_stop)
    clock.lap("caption")
    findings = [
        Findings(tags.get(i), attributes.get(i), categories.get(i), captions.get(i)) for i in range(len(passes))
    ]
    return findings, clock.timings


def _represent(loaded: LoadedModel, passes: Sequence[Pass]) -> Tensor:
    """(P, Q, C) float32. A view that several regions of one image share is encoded once."""
    places: dict[_Key, int] = {}
    distinct: list[NDArray[np.uint8]] = []
    index: list[int] = []
    for each in passes:
        for key, image in zip(_keys(each), each.views.images, strict=True):
            if key not in places:
                places[key] = len(distinct)
                distinct.append(image)
            index.append(places[key])
    images = torch.from_numpy(np.stack(distinct)).to(loaded.device)
    boxes = torch.from_numpy(np.stack([each.views.boxes for each in passes])).to(loaded.device)
    features = loaded.network.encode(images)
    if len(distinct) < len(index):
        features = features.take(torch.tensor(index, device=loaded.device))
    return loaded.network.represent(features, boxes)


def _keys(each: Pass) -> list[_Key]:
    """What makes a view the same view: the image and the integer crop (its corners are within the image already)."""
    corners = np.array([view.box for view in each.plan.views], dtype=np.float32)
    size = np.iinfo(np.int32).max
    return [(each.image, *crop) for crop in integer_crops(corners, (size, size)).tolist()]


def _logits(
    loaded: LoadedModel, region: Tensor, passes: Sequence[Pass], tasks: set[Task]
) -> dict[int, NDArray[np.float32]]:
    """Pass -> logits over the task's vocabulary, for the passes that need them."""
    rows = [i for i, each in enumerate(passes) if tasks & set(each.tasks)]
    if not rows:
        return {}
    some = region[torch.tensor(rows, device=region.device)]
    network, texts = loaded.network, loaded.texts
    if Task.TAGS in tasks:
        logits = network.tag_decoder(some, texts.tags)
    elif Task.ATTRIBUTES in tasks:
        prompts = network.region_text_decoder(some, texts.attributes)
        owner = torch.tensor(loaded.vocabulary.attribute_owner, device=region.device)
        logits = synonym_maximum(prompts, owner, len(loaded.vocabulary.attributes))
    else:
        logits = network.region_text_decoder(some, texts.categories)
    return dict(zip(rows, logits.float().cpu().numpy(), strict=True))


def _captions(
    loaded: LoadedModel,
    region: Tensor,
    passes: Sequence[Pass],
    rows: Sequence[int],
    tags: dict[int, NDArray[np.float32]],
    should_stop: Callable[[], bool] | None,
) -> dict[int, CaptionFinding]:
    if not rows:
        return {}
    words = [control_words(loaded, tags[i], passes[i].controls) for i in rows]
    ids = loaded.language_tokenizer(
        words,
        padding=True,
        truncation=True,
        max_length=loaded.network.config.max_control_tokens,
        return_tensors="pt",
    ).to(loaded.device)
    some = region[torch.tensor(rows, device=region.device)]
    found = loaded.network.language.generate(some, ids.input_ids, ids.attention_mask, should_stop)
    columns = (found.tokens.cpu().tolist(), found.score.tolist(), found.logprob_sum.tolist(), found.length.tolist())
    return {
        i: CaptionFinding(tuple(tokens), score, total, length)
        for i, tokens, score, total, length in zip(rows, *columns, strict=True)
    }
