"""Captions: a sentence about the region, written by the language model. Source: paper, section 3.3 (D_llm).

Shapes: R = regions, N = tags of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    from dynrefer.model.networks.generation.beam_search import WordLimit

LIMITED_BEAMS = 8  # with a limit of words: where sequences must end, the best are not those that led before
NO_SEQUENCE = -1e6  # no sequence is as unlikely; one that does not exist has less


@dataclass(frozen=True, slots=True)
class CaptionWriting(JsonRecord):
    """How a caption is searched for.

    controls_only: the control words are the user's alone, without the predicted tags.
    num_captions: how many candidates are returned. num_beams: of the search; None: the model's, or as many as there
    are candidates. max_words: the longest caption that is searched for; None: only the model's limit of tokens.
    """

    controls_only: bool = False
    num_captions: int = 1
    num_beams: int | None = None
    max_words: int | None = None

    @property
    def has_own_search(self) -> bool:
        """Whether the search is another than the model's usual one."""
        return (self.num_captions, self.num_beams, self.max_words) != (1, None, None)


@dataclass(frozen=True, slots=True)
class CaptionCandidate(JsonRecord):
    """One of several captions of a region; the numbers as in `Caption`."""

    text: str
    score: float
    logprob_sum: float
    logprob_mean: float


@dataclass(frozen=True, slots=True)
class Caption(JsonRecord):
    """text; score = exp(beam score) as the official code reports it; sum and per-token mean of log-probabilities.

    name: the noun of the text, where the model decides it before it writes; probability: of that name, calibrated.
    candidates: where several were asked for: all that were found, with different texts, best first; the first is this.
    """

    text: str
    score: float
    logprob_sum: float
    logprob_mean: float
    name: str | None = None
    probability: float | None = None
    candidates: tuple[CaptionCandidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class GeneratedCaption:
    """What the beam search returns for a region.

    tokens: ids, the start token first. score: the search's own. logprob_sum: over `length` tokens, end token included.
    others: where several were asked for, the next best. noun_alone: whether no more words are allowed than the noun.
    """

    tokens: tuple[int, ...]
    score: float
    logprob_sum: float
    length: int
    others: tuple[GeneratedCaption, ...] | None = None
    noun_alone: bool = False


class CaptionTask(TaskDefinition[GeneratedCaption, Caption]):
    """The language model is given the region's tags as control words, so their logits are needed first."""

    name = "caption"
    stage = "caption"
    prior = CONTEXT_PRIOR
    needs = (TagsTask.name,)
    record = Caption

    def run(self, loaded: LoadedModel, batch: TaskBatch) -> list[GeneratedCaption]:
        if not any(each.has_own_search for each in batch.writing):
            ids, mask = self.control_tokens(loaded, batch)
            return self.outputs(
                loaded.network.language.generate(batch.representation, ids, mask, batch.should_stop, loaded.slots)
            )
        searches: dict[tuple[int, int | None, bool], list[int]] = {}
        for row, each in enumerate(batch.writing):
            key = each.num_captions, each.num_beams, each.max_words is not None
            searches.setdefault(key, []).append(row)
        found: dict[int, GeneratedCaption] = {}
        for rows in searches.values():
            found |= dict(zip(rows, self._searched(loaded, batch.of(rows)), strict=True))
        return [found[row] for row in range(len(found))]

    def _searched(self, loaded: LoadedModel, batch: TaskBatch) -> list[GeneratedCaption]:
        """Captions of regions whose searches have the same settings, but for the number of words."""
        language, writing = loaded.network.language, batch.writing[0]
        if not writing.has_own_search:
            return self.run(loaded, batch)
        ids, mask = self.control_tokens(loaded, batch)
        limit, noun_alone = word_limit(loaded, batch)
        usual = int(language.generation["num_beams"])
        count = writing.num_captions
        beams = writing.num_beams or max(usual if limit is None else LIMITED_BEAMS, count)
        # A sequence that had to end may lack the placeholder: with a limit there are others to take in its stead.
        returned = count if limit is None else beams
        captions = self.outputs(
            language.generate(
                batch.representation,
                ids,
                mask,
                batch.should_stop,
                limit=limit,
                num_beams=beams,
                num_return_sequences=returned,
            )
        )
        found = []
        for row, alone in enumerate(noun_alone):
            every = captions[row * returned : (row + 1) * returned]
            best, *others = self._with_placeholder_first(loaded, every)[:count]
            found.append(replace(best, others=tuple(others) if count > 1 else None, noun_alone=alone))
        return found

    def _with_placeholder_first(
        self, loaded: LoadedModel, captions: Sequence[GeneratedCaption]
    ) -> list[GeneratedCaption]:
        """The sequences that exist, best first; where nouns have a placeholder, those that hold it lead."""
        first, *rest = captions
        existing = [first, *(each for each in rest if each.logprob_sum > NO_SEQUENCE)]
        placeholder = loaded.network.config.noun_placeholder
        if placeholder is None:
            return existing
        mark = loaded.language_tokenizer.convert_tokens_to_ids(loaded.language_tokenizer.tokenize(placeholder))[-1]
        return sorted(existing, key=lambda each: mark not in each.tokens)

    def control_tokens(self, loaded: LoadedModel, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Ids and mask (R, W) int64 of the control words, on the device."""
        from dynrefer.model.networks.kernels.batch_invariance import CONTROL_MULTIPLE
        from dynrefer.model.networks.kernels.transfers import upload

        tags, own = batch.needed[TagsTask.name], batch.tags or [None] * len(batch.controls)
        only = [each.controls_only for each in batch.writing]
        rows = zip(tags, batch.controls, batch.identities, own, only, strict=True)
        words = [control_words(loaded, *row) for row in rows]
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
        every = (output, *(output.others or ()))
        return all(math.isfinite(each.score) and math.isfinite(each.logprob_sum) for each in every)

    def finish(
        self,
        loaded: LoadedModel,
        output: GeneratedCaption,
        identity: Identity | None,
        threshold: float | None,
        top_k: int,
    ) -> Caption:
        """As in `TaskDefinition`; threshold and top_k do not apply."""
        texts: dict[str, CaptionCandidate] = {}
        for each in (output, *(output.others or ())):
            text = identity.name if identity and output.noun_alone else caption_text(loaded, each, identity)
            mean = each.logprob_sum / max(each.length, 1)
            score = shortest(math.exp(min(each.score, 0.0)))
            texts.setdefault(text, CaptionCandidate(text, score, shortest(each.logprob_sum), shortest(mean)))
        found = tuple(texts.values())
        return Caption(
            found[0].text,
            found[0].score,
            found[0].logprob_sum,
            found[0].logprob_mean,
            identity.name if identity else None,
            shortest(identity.probability) if identity else None,
            None if output.others is None else found,
        )


def caption_text(loaded: LoadedModel, output: GeneratedCaption, identity: Identity | None) -> str:
    """The text of what was generated; with an identity, its noun in place of the placeholder."""
    text: str = loaded.language_tokenizer.decode(list(output.tokens), skip_special_tokens=True).strip()
    if identity is None:
        return text
    noun, placeholder = noun_of(loaded, identity), loaded.network.config.noun_placeholder or ""
    return put_noun(text, noun, placeholder) if placeholder in text else noun_phrase(noun)


def noun_of(loaded: LoadedModel, identity: Identity) -> Noun:
    """How a region's name is used in a sentence."""
    return Noun(identity.name) if loaded.evidence is None else loaded.evidence.names.noun(identity.name)


def word_limit(loaded: LoadedModel, batch: TaskBatch) -> tuple[WordLimit | None, list[bool]]:
    """The limit of a batch's searches, and for each region whether its caption is to be the noun alone.

    A placeholder is one word where it is written, and its noun with what belongs to it may be several: "a ~" becomes "a
    pair of scissors".
    """
    import torch

    from dynrefer.model.networks.generation.beam_search import WordLimit
    from dynrefer.model.networks.kernels.transfers import upload

    if batch.writing[0].max_words is None:
        return None, [False] * len(batch.writing)
    most, alone = [], []
    for writing, identity in zip(batch.writing, batch.identities, strict=True):
        words = writing.max_words or 1
        phrase = 0 if identity is None else len(noun_phrase(noun_of(loaded, identity)).split())
        alone.append(words < phrase)
        most.append(max(1, words - max(0, phrase - 2)))
    end = loaded.network.language.special_tokens.end
    return WordLimit(loaded.word_starts, upload(torch.tensor(most), loaded.device), end), alone


def control_words(
    loaded: LoadedModel,
    tag_logits: Floats,
    controls: Sequence[str],
    identity: Identity | None = None,
    tags: Sequence[str] | None = None,
    controls_only: bool = False,
) -> str:
    """The language model's control words: the user's in their order, each once, then the tags above the model's
    threshold, best first; with `controls_only` the user's alone.

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
        return ",".join(dict.fromkeys([*given, *([] if controls_only else chosen)])) + "|"
    nouns = frozenset(loaded.vocabulary.categories)
    given = [cleaned for word in given if (cleaned := word.replace(placeholder, "").strip())]
    if identity.photograph:
        known = [word for word in given if word in loaded.vocabulary.tag_index and word not in nouns]
        said = identity.colour if identity.colour in loaded.vocabulary.tag_index and not controls_only else None
        colour = [] if said is None else [said]
        return ",".join(dict.fromkeys([placeholder, *known, *colour])) + ".|"
    others = [] if controls_only else [tag for tag in _tags_above(loaded, tag_logits) if tag not in nouns]
    return ",".join(dict.fromkeys([placeholder, *given, *others])) + "|"


def _tags_above(loaded: LoadedModel, tag_logits: Floats) -> list[str]:
    """The tags above the model's threshold, best first."""
    scores = sigmoid(tag_logits)
    tags = loaded.vocabulary.tags
    above = (scores > loaded.network.config.thresholds[TagsTask.name]).nonzero()[0]
    ordered = sorted(above.tolist(), key=lambda i: (-float(scores[i]), tags[i]))
    return [tags[i] for i in ordered]
