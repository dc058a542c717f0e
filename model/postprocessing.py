"""From logits and token ids to the records of an answer: scores, calibrated probabilities, order, cuts. No device.

Letters: T tags, A attributes, K categories.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import OutputError
from dynrefer.model.loading import LoadedModel
from dynrefer.model.types import AttributeLabel, Caption, Label, RegionQuery, Task

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GeneratedCaption:
    """tokens: ids with the start token first. score: the beam search's. logprob_sum over `length` tokens, end
    included."""

    tokens: tuple[int, ...]
    score: float
    logprob_sum: float
    length: int


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """Raw logits of one region with one view plan: tags (T,), attributes (A,), categories (K,), and the caption."""

    tags: Floats | None
    attributes: Floats | None
    categories: Floats | None
    caption: GeneratedCaption | None


def check_finite(found: RawOutputs) -> None:
    """Raises `OutputError` for NaN or infinity: such a number would drop out of a list of scores unseen."""
    arrays = [each for each in (found.tags, found.attributes, found.categories) if each is not None]
    numbers = [] if found.caption is None else [found.caption.score, found.caption.logprob_sum]
    if not (all(map(math.isfinite, numbers)) and all(bool(np.isfinite(each).all()) for each in arrays)):
        raise OutputError("the network gave NaN or infinity for this region.")


def control_words(loaded: LoadedModel, tag_logits: Floats, controls: Sequence[str]) -> str:
    """What the language model is told: the user's words, then tags above the model's threshold, best first.

    Joined by "," and closed by "|" as in the released code, whose order is that of a Python set. Here the user's
    words come first, so that the cut at 32 tokens takes tags and not them; equal scores are ordered by name.
    """
    scores = sigmoid(tag_logits)
    tags = loaded.vocabulary.tags
    above = np.flatnonzero(scores > loaded.network.config.thresholds["tags"])
    ordered = sorted(above.tolist(), key=lambda i: (-float(scores[i]), tags[i]))
    words = dict.fromkeys([*(word for word in controls if word), *(tags[i] for i in ordered)])
    return ",".join(words) + "|"


def answer_caption(loaded: LoadedModel, found: RawOutputs) -> Caption:
    """The text; score = exp(beam score)."""
    assert found.caption is not None
    caption = found.caption
    text = loaded.language_tokenizer.decode(list(caption.tokens), skip_special_tokens=True).strip()
    mean = caption.logprob_sum / max(caption.length, 1)
    score = math.exp(min(caption.score, 0.0))
    return Caption(text, _shortest(score), _shortest(caption.logprob_sum), _shortest(mean))


def answer_tags(loaded: LoadedModel, found: RawOutputs, query: RegionQuery) -> tuple[Label, ...]:
    """score = sigmoid; strictly above the query's threshold, or the model's."""
    assert found.tags is not None
    scores = sigmoid(found.tags)
    threshold = query.thresholds.get(Task.TAGS, loaded.network.config.thresholds["tags"])
    probabilities = sigmoid(_calibrated(loaded, Task.TAGS, found.tags))
    return _labels(loaded.vocabulary.tags, scores, probabilities, threshold, query.top_k)


def answer_attributes(loaded: LoadedModel, found: RawOutputs, query: RegionQuery) -> tuple[AttributeLabel, ...]:
    """score = sigmoid of the best synonym's logit."""
    assert found.attributes is not None
    names = tuple(attribute.name for attribute in loaded.vocabulary.attributes)
    attributes = dict(zip(names, loaded.vocabulary.attributes, strict=True))
    probabilities = sigmoid(_calibrated(loaded, Task.ATTRIBUTES, found.attributes))
    labels = _labels(
        names, sigmoid(found.attributes), probabilities, query.thresholds.get(Task.ATTRIBUTES), query.top_k
    )
    return tuple(
        AttributeLabel(x.name, attributes[x.name].type, attributes[x.name].value, x.score, x.probability)
        for x in labels
    )


def answer_categories(loaded: LoadedModel, found: RawOutputs, query: RegionQuery) -> tuple[Label, ...]:
    """score = raw logit; probability = softmax of the calibrated logits over the vocabulary."""
    assert found.categories is not None
    logits = _calibrated(loaded, Task.CATEGORIES, found.categories)
    exponentials = np.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    threshold = query.thresholds.get(Task.CATEGORIES)
    return _labels(loaded.vocabulary.categories, found.categories, probabilities, threshold, query.top_k)


def sigmoid(logits: Floats) -> Floats:
    """Without overflow for large negative logits."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def _calibrated(loaded: LoadedModel, task: Task, logits: Floats) -> Floats:
    """scale * logit + bias: fitted where the configuration has it, else the trained temperature and bias of the
    head."""
    config = loaded.network.config
    if task in config.calibration:
        fitted = config.calibration[task]
        return (logits * float(fitted["scale"]) + float(fitted["bias"])).astype(np.float32)
    if task is Task.TAGS:
        return logits
    return (logits * loaded.region_text_scale + loaded.region_text_bias).astype(np.float32)


def _labels(
    names: Sequence[str], scores: Floats, probabilities: Floats, threshold: float | None, top_k: int
) -> tuple[Label, ...]:
    """The best first, equal scores by name."""
    with np.errstate(over="ignore"):  # a threshold beyond float32 is infinite, and that is what it means
        chosen = np.arange(len(names)) if threshold is None else np.flatnonzero(scores > threshold)
    if len(chosen) > top_k > 0:  # only what may be shown is put in order, in Python
        chosen = chosen[scores[chosen] >= np.partition(scores[chosen], -top_k)[-top_k]]
    ordered = sorted(chosen.tolist(), key=lambda i: (-float(scores[i]), names[i]))[:top_k]
    return tuple(Label(names[i], _shortest(scores[i]), _shortest(probabilities[i])) for i in ordered)


def _shortest(value: float | np.float32) -> float:
    """The shortest decimal that is the same float32: 0.97, where float() gives 0.9700000286102295."""
    return float(str(np.float32(value)))
