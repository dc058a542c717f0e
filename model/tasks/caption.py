"""Captions: a sentence about the region, written by the language model. Source: paper, section 3.3 (D_llm).

Shapes: R = regions, N = tags of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.tasks.definition import TaskBatch, TaskDefinition
from dynrefer.model.tasks.scoring import CONTEXT_PRIOR, Floats, shortest, sigmoid
from dynrefer.model.tasks.tags import TagsTask

if TYPE_CHECKING:
    from dynrefer.model.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Caption:
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
        from dynrefer.model.networks.kernels.batch_invariance import CONTROL_MULTIPLE

        tags = batch.needed[TagsTask.name]
        words = [control_words(loaded, *row) for row in zip(tags, batch.controls, strict=True)]
        ids = loaded.language_tokenizer(
            words,
            padding=True,
            pad_to_multiple_of=CONTROL_MULTIPLE,
            truncation=True,
            max_length=loaded.network.config.max_control_tokens,
            return_tensors="pt",
        ).to(loaded.device)
        found = loaded.network.language.generate(
            batch.representation, ids.input_ids, ids.attention_mask, batch.should_stop
        )
        columns = (found.tokens.cpu().tolist(), found.score.tolist(), found.logprob_sum.tolist(), found.length.tolist())
        return [
            GeneratedCaption(tuple(tokens), score, total, length)
            for tokens, score, total, length in zip(*columns, strict=True)
        ]

    def is_finite(self, output: GeneratedCaption) -> bool:
        return math.isfinite(output.score) and math.isfinite(output.logprob_sum)

    def finish(self, loaded: LoadedModel, output: GeneratedCaption, threshold: float | None, top_k: int) -> Caption:
        """As in `TaskDefinition`; threshold and top_k do not apply."""
        text = loaded.language_tokenizer.decode(list(output.tokens), skip_special_tokens=True).strip()
        mean = output.logprob_sum / max(output.length, 1)
        score = math.exp(min(output.score, 0.0))
        return Caption(text, shortest(score), shortest(output.logprob_sum), shortest(mean))


def control_words(loaded: LoadedModel, tag_logits: Floats, controls: Sequence[str]) -> str:
    """The language model's control words: the user's, then the tags above the model's threshold, best first.

    tag_logits: (N,). Joined by "," and closed by "|" as in the released code, whose order is that of a Python set.
    Here the user's words come first, so that the cut at `max_control_tokens` drops tags and not them; tags of equal
    score are ordered by name.
    """
    scores = sigmoid(tag_logits)
    tags = loaded.vocabulary.tags
    above = (scores > loaded.network.config.thresholds[TagsTask.name]).nonzero()[0]
    ordered = sorted(above.tolist(), key=lambda i: (-float(scores[i]), tags[i]))
    words = dict.fromkeys([*(word for word in controls if word), *(tags[i] for i in ordered)])
    return ",".join(words) + "|"
