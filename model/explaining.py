"""A region's raw outputs and its result -> why it was described so. On any thread, without the device.

Which view carried a word is seen from leaving views out. `explained_views.py` adds probes: inputs that repeat a
region's views with t = 0 in the place of one of them. The label that speaks for the word is scored on each. Nothing of
this runs unless a query asks for it.

Shapes: N = labels of a task, P = prompts of the attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from dynrefer.model.asked_words import AskedTask
from dynrefer.model.batch import RawOutputs, RegionOutput
from dynrefer.model.caption_words import NOUN, PROPERTY, FoundWord, KnownWord, found_words, is_function_word
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.explanation import (
    ControlWord,
    ExplainedIdentity,
    ExplainedLabel,
    ExplainedWord,
    Explanation,
    LeftOut,
    NameProbability,
    PlacedSense,
    Support,
    UsedPrior,
)
from dynrefer.model.loading import LoadedModel
from dynrefer.model.preparation import PreparedRegion, RegionInput
from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary
from dynrefer.model.tasks import TASKS_BY_NAME
from dynrefer.model.tasks.caption import control_words
from dynrefer.model.tasks.scoring import Floats, Label, LabelTask, shortest
from dynrefer.model.text_embeddings import control_tags
from dynrefer.model.types import AttributeLabel, Caption, RegionQuery, Task

NETWORK, EVIDENCE, PLACEMENT, TAGS, REQUEST = "network", "evidence", "placement", "tags", "request"
SUPPORTING = (Task.CATEGORIES, Task.TAGS)
SURE = 0.5  # from this probability on a category is said; the first one always is
LEAST_DROP = 0.1  # of log odds: what a view must add for a word to be carried by it and not by the region itself
NAMES = 5  # of the likeliest names, so many
EVERY = 1_000_000_000  # labels

# A task's result: of raw outputs, as a query asks for it.
Finish = Callable[[Task, RawOutputs, RegionQuery], Any]


class Explainer:
    """Explains the regions of one model. finish: of its predictor."""

    def __init__(self, loaded: LoadedModel, finish: Finish) -> None:
        self._loaded, self._finish = loaded, finish

    def explain(self, region: PreparedRegion, output: RegionOutput, results: Mapping[str, Any]) -> Explanation:
        """Why. results: task -> its result, of the same region, whose query has `explain`."""
        asked = [pair for pair in zip(region.inputs, output.outputs, strict=True) if pair[0].left_out is None]
        priors = tuple(
            UsedPrior(
                tuple(task.value for task in given.tasks),
                given.plan.policy.value,
                tuple(view.t for view in given.plan.views),
            )
            for given, _ in asked
        )
        if region.query.explain is None or not region.query.explain.evidence:
            return Explanation(region.explained, priors)
        raw = {task: outputs for given, outputs in asked for task in given.tasks}
        labels = {
            task.value: self._labels(task, raw[task], results[task], region.query.vocabulary)
            for task in raw
            if isinstance(TASKS_BY_NAME[task], LabelTask)
        }
        words, controls = None, None
        if Task.CAPTION in raw:
            words = self._words(region, output, results[Task.CAPTION])
            writing = next(given for given, _ in asked if Task.CAPTION in given.tasks)
            controls = self._controls(writing, raw[Task.CAPTION], results[Task.CAPTION].text)
        identity = asked[0][1].identity
        found = None if identity is None else self._identity(identity)
        return Explanation(region.explained, priors, words, labels, controls, found)

    def _labels(
        self, task: Task, raw: RawOutputs, result: Sequence[Any], vocabulary: RequestVocabulary | None
    ) -> tuple[ExplainedLabel, ...]:
        """Of a task's result, in its order. vocabulary: the request's, if any."""
        if vocabulary is not None and vocabulary.words(task) is not None:
            asked = self._loaded.asked_words.of(vocabulary)[task]
            given = raw.asked.get(task, ())
            places = asked.scored.tolist()[: len(given)]
            logits = {asked.names[place]: float(value) for place, value in zip(places, given, strict=True)}
            elsewhere, senses = PLACEMENT, _senses(asked)
        else:
            logits, elsewhere, senses = self._by_name(task, raw[task]), EVIDENCE, {}
        found = []
        for each in result:
            own = each.name in logits and self._is_networks(each, raw.identity)
            synonym = self._synonym(each.name, raw) if own and elsewhere == EVIDENCE else None
            logit = shortest(logits[each.name]) if own else None
            source = NETWORK if own else elsewhere
            known = senses.get(each.name, ())
            found.append(ExplainedLabel(each.name, each.score, each.probability, source, logit, synonym, known))
        return tuple(found)

    @staticmethod
    def _is_networks(label: Any, identity: Identity | None) -> bool:
        """Whether the network scored it: of a photograph, attributes other than colours alone."""
        if identity is None or not identity.photograph:
            return True
        return isinstance(label, AttributeLabel) and label.type != "color"

    def _by_name(self, task: Task, logits: Floats) -> dict[str, float]:
        """Label -> its logit."""
        names = TASKS_BY_NAME[task].names(self._loaded.vocabulary)
        return dict(zip(names, logits.tolist(), strict=True)) if len(names) == len(logits) else {}

    def _synonym(self, name: str, raw: RawOutputs) -> str | None:
        """The synonym of an attribute whose prompts scored best; every synonym has equally many."""
        attributes = self._loaded.vocabulary.attributes
        if raw.prompts is None or len(raw.prompts) != sum(len(each.prompts) for each in attributes):
            return None
        first = 0
        for each in attributes:
            if each.name == name:
                best = int(raw.prompts[first : first + len(each.prompts)].argmax())
                return each.synonyms[best * len(each.synonyms) // len(each.prompts)]
            first += len(each.prompts)
        return None

    def _words(self, region: PreparedRegion, output: RegionOutput, caption: Caption) -> tuple[ExplainedWord, ...]:
        pairs = list(zip(region.inputs, output.outputs, strict=True))
        answered = {task: pair for pair in pairs if pair[0].left_out is None for task in pair[0].tasks}
        writing, raw = answered[Task.CAPTION]
        # With evidence, one input names the object for all of a region; else each does for itself.
        naming = answered[Task.CATEGORIES][0] if Task.CATEGORIES in answered and writing.evidence else writing
        probes = {
            Task.TAGS: _probes_of(writing, pairs),
            Task.CATEGORIES: _probes_of(naming, pairs),
        }
        said = RawOutputs({task: probes[task][0][1][task] for task in SUPPORTING} | raw)
        said.identity, said.asked = raw.identity, raw.asked
        everything = replace(region.query, top_k=EVERY, thresholds={task: float("-inf") for task in SUPPORTING})
        supports = {task: list(self._finish(task, said, replace(everything, vocabulary=None))) for task in SUPPORTING}
        known = self.known
        if (own := region.query.vocabulary) is not None:
            known = {**known, **_known_of(own, known)}
            for task in (task for task in SUPPORTING if own.words(task) is not None):
                # Those of the request stand in front: they are what its answer says.
                supports[task] = [*self._finish(task, said, everything), *supports[task]]
        photograph = raw.identity is not None and raw.identity.photograph
        words = []
        for word in found_words(caption.text, known):
            words.append(self._word(word, supports, region.query, {} if photograph else probes))
        return tuple(words)

    def _word(
        self,
        word: FoundWord,
        supports: Mapping[Task, Sequence[Label]],
        query: RegionQuery,
        probes: Mapping[Task, Sequence[tuple[RegionInput, RawOutputs]]],
    ) -> ExplainedWord:
        """probes: none where the evidence speaks and the views do not."""
        bare = ExplainedWord(word.text, word.start, word.end, word.kind, False)
        found = [
            (self._is_said(task, label, place, query), label.probability, task, label)
            for task in SUPPORTING
            for place, label in enumerate(supports[task])
            if word.known is not None and label.name in word.known.labels
        ]
        if not found:
            return bare
        supported, _, task, label = max(found, key=lambda each: each[:2])
        support = Support(task.value, label.name, label.score, label.probability)
        bare = replace(bare, supported=supported, support=support)
        if not probes:
            return replace(bare, carried_by=EVIDENCE)
        every, *without = probes[task]
        odds = self._log_odds(task, label.name, every[1])
        if odds is None:
            return bare
        drops = []
        for given, raw in without:
            other = self._log_odds(task, label.name, raw)
            if other is not None and given.left_out is not None:
                drops.append(LeftOut(given.plan.views[given.left_out].t, shortest(odds - other)))
        most = max(drops, key=lambda each: each.drop, default=None)
        view = most.t if most is not None and most.drop >= LEAST_DROP else 0.0
        return replace(bare, carried_by="view", view=view, left_out=tuple(drops))

    def _is_said(self, task: Task, label: Label, place: int, query: RegionQuery) -> bool:
        """Whether an answer with its task says the label: a tag above the threshold, the first category."""
        if task is Task.CATEGORIES:
            return place == 0 or label.probability >= SURE
        return label.score > query.thresholds.get(task, self._loaded.network.config.thresholds[task])

    def _log_odds(self, task: Task, name: str, raw: RawOutputs) -> float | None:
        """Of a label's calibrated probability; None where the network does not score it."""
        definition, names = TASKS_BY_NAME[task], TASKS_BY_NAME[task].names(self._loaded.vocabulary)
        assert isinstance(definition, LabelTask)
        if name not in names or len(names) != len(raw[task]):
            return None
        logits, place = definition.calibrated(self._loaded, raw[task]).astype(np.float64), names.index(name)
        if task is not Task.CATEGORIES:
            return float(logits[place])
        others = np.delete(logits, place)
        return float(logits[place] - np.logaddexp.reduce(others)) if len(others) else float(logits[place])

    def _controls(self, given: RegionInput, raw: RawOutputs, text: str) -> tuple[ControlWord, ...]:
        """What the language model was given, without the noun's placeholder."""
        loaded, identity = self._loaded, raw.identity
        tags = control_tags(loaded, given, raw.asked)
        logits = raw[Task.TAGS] if tags is None else np.empty(0, np.float32)
        line = control_words(loaded, logits, given.controls, identity, tags, given.writing.controls_only)
        words = [word for word in re.sub(r"\.?\|$", "", line).split(",") if word]
        kept = self._kept(line, words)
        asked = {part.strip() for word in given.controls for part in word.split(",")}
        predicted = EVIDENCE if identity is not None and identity.photograph else TAGS
        found = [
            ControlWord(word, REQUEST if word.strip() in asked else predicted, place < kept, _holds(text, word))
            for place, word in enumerate(words)
            if word != loaded.network.config.noun_placeholder
        ]
        # Of a photograph, words that no caption of the training took up are not handed on.
        handed = {word.strip() for word in words}
        left = dict.fromkeys(each for each in given.controls if handed.isdisjoint(map(str.strip, each.split(","))))
        return (*found, *(ControlWord(word, REQUEST, False, _holds(text, word)) for word in left))

    def _kept(self, line: str, words: Sequence[str]) -> int:
        """How many of the words the limit of control tokens leaves."""
        tokenizer, most = self._loaded.language_tokenizer, self._loaded.network.config.max_control_tokens
        ids = tokenizer(line).input_ids
        if len(ids) <= most:
            return len(words)
        left = [part.strip() for part in tokenizer.decode(ids[: most - 1], skip_special_tokens=True).split(",")]
        same = (one.strip() == other for one, other in zip(words, left, strict=False))
        return next((place for place, whole in enumerate(same) if not whole), len(left))

    def _identity(self, identity: Identity) -> ExplainedIdentity:
        evidence, photograph = self._loaded.evidence, identity.photograph
        if photograph and evidence is not None:
            names: Sequence[str] = [entry.name for entry in evidence.names.names]
            probabilities = identity.names
        else:
            names, probabilities = self._loaded.vocabulary.categories, identity.categories
        colours: tuple[NameProbability, ...] = ()
        if len(identity.colours):
            from dynrefer.model.evidence.colour import COLOURS

            colours = _likeliest(COLOURS, identity.colours)
        return ExplainedIdentity(
            identity.domain,
            shortest(identity.photograph_probability),
            identity.name,
            shortest(identity.probability),
            identity.is_parent,
            _likeliest(names, probabilities),
            colours,
            identity.colour,
        )

    @cached_property
    def known(self) -> Mapping[str, KnownWord]:
        """Every word that the model has in a list, in lower case -> what it says."""
        vocabulary, evidence = self._loaded.vocabulary, self._loaded.evidence
        known: dict[str, KnownWord] = {}

        def add(word: str, kind: str, *labels: str) -> None:
            before = known.get(word.lower())
            said = labels if before is None else tuple(dict.fromkeys((*before.labels, *labels)))
            known[word.lower()] = KnownWord(kind if before is None else before.kind, said)

        for name in vocabulary.categories:
            add(name, NOUN, name)
        if evidence is not None:
            for entry in evidence.names.names:
                for word in (entry.name, entry.plural, *entry.synonyms):
                    add(word, NOUN, entry.name)
            for parent in evidence.names.parents:
                add(parent.name, NOUN, parent.name)
        for attribute in vocabulary.attributes:
            for synonym in attribute.synonyms:
                add(synonym, PROPERTY, attribute.value)
        for tag in vocabulary.tags:  # a tag of words that join others is a place, such as "in front of"
            add(tag, PROPERTY if all(map(is_function_word, tag.split())) else NOUN, tag)
        return {word: each for word, each in known.items() if word not in _SAYS_NOTHING}


_SAYS_NOTHING = ("object", "objects", "one", "thing")


def _known_of(vocabulary: RequestVocabulary, known: Mapping[str, KnownWord]) -> dict[str, KnownWord]:
    """A request's words, in lower case -> what they say. known: of the model's own, which they add to."""
    found: dict[str, KnownWord] = {}
    for task in SUPPORTING:
        for word in vocabulary.words(task) or ():
            if isinstance(word, AttributeWord):
                continue
            for form in (word.name, *word.synonyms):
                key = " ".join(form.lower().split())
                before = found.get(key, known.get(key, KnownWord(NOUN, ())))
                found[key] = KnownWord(before.kind, tuple(dict.fromkeys((word.name, *before.labels))))
    return found


def _senses(asked: AskedTask) -> dict[str, tuple[PlacedSense, ...]]:
    """Word of the request -> where its name and synonyms were placed."""
    found: dict[str, tuple[PlacedSense, ...]] = {}
    for owner, each in zip(asked.placed_owner.tolist(), asked.placed, strict=True):
        if each.via != "none":
            name = asked.names[owner]
            found[name] = (*found.get(name, ()), PlacedSense(each.name, each.sense, each.via))
    return found


def _probes_of(
    given: RegionInput, pairs: Sequence[tuple[RegionInput, RawOutputs]]
) -> list[tuple[RegionInput, RawOutputs]]:
    """The probes of an input's views, that of all views first."""
    return [pair for pair in pairs if pair[0].left_out is not None and pair[0].plan == given.plan]


def _likeliest(names: Sequence[str], probabilities: Floats) -> tuple[NameProbability, ...]:
    order = np.argsort(-probabilities, kind="stable")[:NAMES]
    return tuple(NameProbability(names[place], shortest(probabilities[place])) for place in order.tolist())


def _holds(text: str, word: str) -> bool:
    """Whether a text holds a word, as a whole and in any case, or its plural."""
    return re.search(rf"(?<!\w){re.escape(word.strip())}(?:e?s)?(?!\w)", text, re.IGNORECASE) is not None
