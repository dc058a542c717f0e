"""Captions: a sentence about the region, written by the language model. Source: paper, section 3.3 (D_llm).

Shapes: R = regions, N = tags of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.evidence.noun_phrases import Noun, noun_phrase, put_noun
from dynrefer.model.records import JsonRecord
from dynrefer.model.tasks.definition import TaskBatch, TaskDefinition
from dynrefer.model.tasks.scoring import CONTEXT_PRIOR, Floats, shortest, sigmoid
from dynrefer.model.tasks.tags import TagsTask

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.evidence.identity import Identity
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.networks.dynrefer.language import Generated


@dataclass(frozen=True, slots=True)
class Caption(JsonRecord):
    """text; score = exp(beam score) as the official code reports it; sum and per-token mean of log-probabilities.

    name: the noun of the text, where the model decides it before it writes; probability: of that name, calibrated.
    """

    text: str
    score: float
    logprob_sum: float
    logprob_mean: float
    name: str | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class GeneratedCaption:
    """What the beam search returns for a region.

    tokens: ids, the start token first. score: the search's own. logprob_sum: over `length` tokens, end token included.
    """

    tokens: tuple[int, ...]
    score: float
    logprob_sum: float
    length: int


class CaptionTask(TaskDefinition[GeneratedCaption, Caption]):
    """The language model is given the region's tags as control words, so their logits are needed first."""

    name = "caption"
    stage = "caption"
    prior = CONTEXT_PRIOR
    needs = (TagsTask.name,)
    record = Caption

    def run(self, loaded: LoadedModel, batch: TaskBatch) -> list[GeneratedCaption]:
        ids, mask = self.control_tokens(loaded, batch)
        return self.outputs(
            loaded.network.language.generate(batch.representation, ids, mask, batch.should_stop, loaded.slots)
        )

    def control_tokens(self, loaded: LoadedModel, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Ids and mask (R, W) int64 of the control words, on the device."""
        from dynrefer.model.networks.kernels.batch_invariance import CONTROL_MULTIPLE
        from dynrefer.model.networks.kernels.transfers import upload

        tags, own = batch.needed[TagsTask.name], batch.tags or [None] * len(batch.controls)
        words = [control_words(loaded, *row) for row in zip(tags, batch.controls, batch.identities, own, strict=True)]
        ids = loaded.language_tokenizer(
            words,
            padding=True,
            pad_to_multiple_of=CONTROL_MULTIPLE,
            truncation=True,
            max_length=loaded.network.config.max_control_tokens,
            return_tensors="pt",
        )
        return upload(ids.input_ids, loaded.device), upload(ids.attention_mask, loaded.device)

    def outputs(self, found: Generated) -> list[GeneratedCaption]:
        """One per row of what the language model wrote."""
        columns = (found.tokens.cpu().tolist(), found.score.tolist(), found.logprob_sum.tolist(), found.length.tolist())
        return [
            GeneratedCaption(tuple(tokens), score, total, length)
            for tokens, score, total, length in zip(*columns, strict=True)
        ]

    def is_finite(self, output: GeneratedCaption) -> bool:
        return math.isfinite(output.score) and math.isfinite(output.logprob_sum)

    def finish(
        self,
        loaded: LoadedModel,
        output: GeneratedCaption,
        identity: Identity | None,
        threshold: float | None,
        top_k: int,
    ) -> Caption:
        """As in `TaskDefinition`; threshold and top_k do not apply."""
        text = loaded.language_tokenizer.decode(list(output.tokens), skip_special_tokens=True).strip()
        mean = output.logprob_sum / max(output.length, 1)
        score = shortest(math.exp(min(output.score, 0.0)))
        if identity is None:
            return Caption(text, score, shortest(output.logprob_sum), shortest(mean))
        noun = Noun(identity.name) if loaded.evidence is None else loaded.evidence.names.noun(identity.name)
        placeholder = loaded.network.config.noun_placeholder or ""
        text = put_noun(text, noun, placeholder) if placeholder in text else noun_phrase(noun)
        probability = shortest(identity.probability)
        return Caption(text, score, shortest(output.logprob_sum), shortest(mean), identity.name, probability)


def control_words(
    loaded: LoadedModel,
    tag_logits: Floats,
    controls: Sequence[str],
    identity: Identity | None = None,
    tags: Sequence[str] | None = None,
) -> str:
    """The language model's control words: the user's, then the tags above the model's threshold, best first.

    tag_logits: (N,), of the model's tags; not looked at where a request's own `tags` take their place.
    Joined by "," and closed by "|" as in the released code, whose order is that of a Python set.
    Here the user's words come first, so that the cut at `max_control_tokens` drops tags and not them; tags of equal
    score are ordered by name.
    With an identity the placeholder of its noun stands in front of all, and other nouns are left out. Of a photograph
    only its colour follows, and of the user's words those that the model was trained to take up; the closing ".|" asks
    for a caption of these words and nothing else.
    """
    placeholder = loaded.network.config.noun_placeholder
    given = [word for word in controls if word]
    if identity is None or placeholder is None:
        chosen = _tags_above(loaded, tag_logits) if tags is None else tags
        return ",".join(dict.fromkeys([*given, *chosen])) + "|"
    nouns = frozenset(loaded.vocabulary.categories)
    given = [cleaned for word in given if (cleaned := word.replace(placeholder, "").strip())]
    if identity.photograph:
        known = [word for word in given if word in loaded.vocabulary.tag_index and word not in nouns]
        colour = [identity.colour] if identity.colour in loaded.vocabulary.tag_index else []
        return ",".join(dict.fromkeys([placeholder, *known, *colour])) + ".|"
    others = [tag for tag in _tags_above(loaded, tag_logits) if tag not in nouns]
    return ",".join(dict.fromkeys([placeholder, *given, *others])) + "|"


def _tags_above(loaded: LoadedModel, tag_logits: Floats) -> list[str]:
    """The tags above the model's threshold, best first."""
    scores = sigmoid(tag_logits)
    tags = loaded.vocabulary.tags
    above = (scores > loaded.network.config.thresholds[TagsTask.name]).nonzero()[0]
    ordered = sorted(above.tolist(), key=lambda i: (-float(scores[i]), tags[i]))
    return [tags[i] for i in ordered]
