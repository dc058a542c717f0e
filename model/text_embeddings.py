"""Embeddings of a request's texts by the model's text tower, and logits of its words: each text is embedded once.

For the device's thread. Texts of one length go through the tower together, without padding and never few rows at a
time, so that an embedding does not depend on what else is embedded (`kernels/batch_invariance.py`).

Shapes: R = inputs, Q = region tokens, C = channels, P = prompts, E = text width, L = tokens of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.asked_words import AskedTask
from dynrefer.model.cache import FeatureCache
from dynrefer.model.errors import StoppedError
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.dynrefer.decoders import PreparedTexts
from dynrefer.model.networks.kernels.batch_invariance import LEAST_ROWS, repeat_last
from dynrefer.model.networks.kernels.transfers import to_host, upload
from dynrefer.model.preparation import RegionInput
from dynrefer.model.tasks import with_needs
from dynrefer.model.tasks.caption import CaptionTask
from dynrefer.model.tasks.scoring import Floats, sigmoid
from dynrefer.model.tasks.tags import TagsTask

CHUNK = 256  # texts through the tower at a time
# Texts of a vocabulary are padded to one of these sizes, so that vocabularies of much the same size are scored
# together, and never so few that a kernel for few rows rounds differently; larger ones to a multiple of the first.
SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_OVERHEAD = 200  # bytes of a cached text beside its embedding and its characters


@dataclass(frozen=True, slots=True)
class _Scored:
    """A task's words for some inputs. rows: which. logits: (len(rows), P or more), on their way to the CPU."""

    task: str
    rows: list[int]
    asked: list[AskedTask]
    logits: Tensor


class WordScores:
    """The logits of words that requests brought, for the inputs of a batch."""

    def __init__(
        self,
        loaded: LoadedModel,
        region: Tensor,
        inputs: Sequence[RegionInput],
        cache: FeatureCache,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Give the work to the device, waiting for it only where texts are new. region: (R, Q, C)."""
        self._inputs = len(inputs)
        self._scored: list[_Scored] = []
        asked: dict[str, dict[int, AskedTask]] = {}
        for row, each in enumerate(inputs):
            for task, words in asked_of(loaded, each).items():
                if words.prompts:
                    asked.setdefault(task, {})[row] = words
        if not asked:
            return
        texts = _Texts(loaded, cache, should_stop)
        prepared = iter(texts.prepare([(task, words) for task, by_row in asked.items() for words in by_row.values()]))
        for task, by_row in asked.items():
            rows = list(by_row)
            some = region if len(rows) == len(region) else region[upload(torch.tensor(rows), region.device)]
            logits = loaded.inference.score_own_texts(task, some, list(islice(prepared, len(rows))))
            self._scored.append(_Scored(task, rows, list(by_row.values()), to_host(logits.float())))

    def take(self) -> list[Mapping[str, Floats]]:
        """Per input: task -> (S,) logits of the words that have prompts. Once the device has come so far."""
        found: list[dict[str, Floats]] = [{} for _ in range(self._inputs)]
        for each in self._scored:
            for row, words, logits in zip(each.rows, each.asked, each.logits.numpy(), strict=True):
                found[row][each.task] = words.best_of_synonyms(logits)
        return list(found)


def asked_of(loaded: LoadedModel, given: RegionInput) -> Mapping[str, AskedTask]:
    """Task -> what it is asked in words of the request, of the tasks that are wanted in them."""
    if given.vocabulary is None:
        return {}
    wanted = {*map(str, given.tasks), *([TagsTask.name] if _tags_control(loaded, given) else [])}
    return {task: words for task, words in loaded.asked_words.of(given.vocabulary).items() if task in wanted}


def own_tasks(loaded: LoadedModel, given: RegionInput) -> frozenset[str]:
    """The tasks that run with the model's own words, or without words: those requested and not replaced by words of the
    request, and what they need."""
    if given.vocabulary is None:
        return with_needs(given.tasks)
    found = with_needs(task for task in given.tasks if given.vocabulary.words(task) is None)
    return found - {TagsTask.name} if _tags_control(loaded, given) else found


def control_tags(loaded: LoadedModel, given: RegionInput, scores: Mapping[str, Floats]) -> tuple[str, ...] | None:
    """The request's own tags above their threshold, best first, where they control its caption; else None.

    scores: task -> logits of the request's words, as in `WordScores.take`.
    """
    if not _tags_control(loaded, given) or given.vocabulary is None:
        return None
    words = loaded.asked_words.of(given.vocabulary)[TagsTask.name]
    logits, default = scores[TagsTask.name], loaded.network.config.thresholds[TagsTask.name]
    least = np.where(np.isnan(words.thresholds), default, words.thresholds)
    values = sigmoid(logits)
    above = sorted(np.flatnonzero(values > least).tolist(), key=lambda i: (-float(values[i]), words.names[i]))
    return tuple(words.names[i] for i in above)


def _tags_control(loaded: LoadedModel, given: RegionInput) -> bool:
    """Whether the request's own tags are its caption's control words in place of the model's: with a language model
    that was taught many words, and not those of its own lists alone."""
    has_tags = given.vocabulary is not None and given.vocabulary.tags is not None
    return has_tags and CaptionTask.name in given.tasks and loaded.network.config.noun_placeholder is None


class _Texts:
    """The texts of one batch: those of its vocabularies that are not cached are embedded together."""

    def __init__(self, loaded: LoadedModel, cache: FeatureCache, should_stop: Callable[[], bool] | None) -> None:
        self._loaded, self._cache, self._should_stop = loaded, cache, should_stop
        config = loaded.network.config
        self._revision = f"{config.name} {config.revision} {loaded.dtype}\0".encode()

    def prepare(self, wanted: Sequence[tuple[str, AskedTask]]) -> list[PreparedTexts]:
        """Each task's texts as its decoder takes them, padded to a size that vocabularies share; equal ones are one."""
        keys = [self._revision + task.encode() + words.key for task, words in wanted]
        found = {key: self._cache.vocabularies.get(key) for key in dict.fromkeys(keys)}
        missing = [each for key, each in dict(zip(keys, wanted, strict=True)).items() if found[key] is None]
        embedded = self._embed(dict.fromkeys(text for _, words in missing for text in words.prompts))
        for key, (task, words) in zip(keys, wanted, strict=True):
            if found[key] is None:
                rows = torch.stack([embedded[text] for text in words.prompts])
                rows = repeat_last(rows, padded(len(rows)) - len(rows)).to(self._loaded.dtype)
                made = self._loaded.inference.prepare_texts(task, upload(rows, self._loaded.device))
                self._cache.vocabularies.put(key, made, made.nbytes + _OVERHEAD)
                found[key] = made
        return [prepared for key in keys if (prepared := found[key]) is not None]

    def _embed(self, texts: Iterable[str]) -> dict[str, Tensor]:
        """Text -> (E,) float32 on the CPU."""
        found = {text: self._cache.texts.get(self._key(text)) for text in texts}
        missing = [text for text, row in found.items() if row is None]
        if missing:
            for text, row in zip(missing, embed_each(self._loaded, missing, self._should_stop), strict=True):
                own = row.clone()  # a view would keep the whole batch in memory
                found[text] = own
                self._cache.texts.put(self._key(text), own, own.nbytes + len(text) + _OVERHEAD)
        return {text: row for text, row in found.items() if row is not None}

    def _key(self, text: str) -> bytes:
        return self._revision + text.encode("utf-8", "surrogatepass")


def padded(texts: int) -> int:
    """The number of texts that so many are padded to."""
    return next((size for size in SIZES if size >= texts), -(-texts // LEAST_ROWS) * LEAST_ROWS)


def embed_each(loaded: LoadedModel, texts: Sequence[str], should_stop: Callable[[], bool] | None = None) -> Tensor:
    """Text embeddings (P, E) float32 on the CPU; each depends on its own text alone. Long texts are cut; their end
    token stays. Raises `StoppedError` once `should_stop` returns true."""
    tower = loaded.network.text
    limit = tower.config.max_position_embeddings
    ids = loaded.text_tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
    by_length: dict[int, list[int]] = {}
    for index, each in enumerate(ids):
        by_length.setdefault(len(each), []).append(index)
    found = torch.empty(len(texts), tower.text_projection.out_features)
    for indices in by_length.values():
        for first in range(0, len(indices), CHUNK):
            if should_stop is not None and should_stop():
                raise StoppedError("the batch was cancelled: no client waits for its results.")
            some = indices[first : first + CHUNK]
            rows = torch.from_numpy(np.array([ids[index] for index in some], dtype=np.int64))
            rows = repeat_last(rows, max(0, LEAST_ROWS - len(rows)))
            embedded = tower(input_ids=upload(rows, loaded.device)).text_embeds
            found[some] = embedded[: len(some)].float().cpu()
    return found
