"""What a request's words mean to a model: which texts stand for them, and which of them it knows nothing about.

A model that writes its nouns itself (official weights) knows every word: its text tower was trained on whole web pages.
The tower of one with evidence was trained on the words of its own lists, so it is asked about these alone: attributes,
and tags that are no things ("grass"). What a thing is, is read from what the region's object was taken for, in whose
nouns the word has its place (`evidence/word_placement.py`). Words without a place are named and not guessed.

No torch. Shapes: N = words of a list, P = prompts, M = names and synonyms that are placed.
"""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary, UnknownWord, Word, Words
from dynrefer.model.tasks.attributes import AttributesTask
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.tasks.tags import TagsTask
from dynrefer.model.vocabulary import Attribute, PromptTemplates, Vocabulary

if TYPE_CHECKING:
    from dynrefer.model.evidence.identity import Identity

Floats = NDArray[np.float32]

MEMBERS = (CategoriesTask.name, AttributesTask.name, TagsTask.name)
REMEMBERED = 64  # vocabularies whose meaning is kept; one of 2,000 words takes about a megabyte
_NEAREST = 3


class Placed(Protocol):
    """A word in the graph of nouns."""

    @property
    def via(self) -> str:
        """How it was placed; "none": it was not."""

    @property
    def nearest(self) -> tuple[str, ...]:
        """Own words next to it."""

    def breadth(self, photograph: bool) -> float:
        """How much of what the model knows of photographs, or of drawings, is below it."""


class Placement(Protocol):
    """Who places words; see `evidence/word_placement.py`."""

    def place(self, words: Sequence[str]) -> Sequence[Any]:
        """A `Placed` per word. Any thread."""

    def probabilities(self, placed: Sequence[Any], identity: Identity) -> Floats:
        """(M,) 0 to 1, that a region's object is each of them; NaN for what was not placed."""


@dataclass(frozen=True, eq=False)
class AskedTask:
    """What a task is asked.

    names: (N,), as answers say them. thresholds: (N,) of the words; NaN: the task's default. scale, bias: of a fitted
    calibration, or None.
    prompts: (P,) texts to be scored. scored: (S,) which of the N words have prompts, ascending. starts: (S,) where the
    prompts of each begin.
    placed: (M,) names and synonyms in the graph of nouns. placed_owner: (M,) the word of each.
    colours: word -> the colour that it is, of attributes and tags of a model with evidence.
    """

    names: tuple[str, ...]
    thresholds: Floats
    calibration: tuple[float, float] | None
    attributes: tuple[Attribute, ...]
    prompts: tuple[str, ...]
    scored: NDArray[np.int64]
    starts: NDArray[np.int64]
    placed: tuple[Any, ...]
    placed_owner: NDArray[np.int64]
    colours: Mapping[int, str]
    unknown: tuple[UnknownWord, ...]

    @cached_property
    def key(self) -> bytes:
        """A digest of the prompts."""
        return hashlib.sha256("\0".join(self.prompts).encode("utf-8", "surrogatepass")).digest()

    def best_of_synonyms(self, logits: Floats) -> Floats:
        """Logits (P or more,) of the prompts -> (S,) of the words that have any."""
        if not len(self.starts):
            return np.empty(0, np.float32)
        best: Floats = np.maximum.reduceat(logits[: len(self.prompts)], self.starts)
        return best


class AskedWords:
    """Vocabularies of requests, as one model understands them; each is worked out once. For any thread.

    own, prompts: the model's. things: own words that are names of things, for a model with evidence; placement: who
    places words there; None where the text tower knows every word.
    """

    def __init__(
        self,
        own: Vocabulary,
        prompts: PromptTemplates,
        placement: Placement | None = None,
        things: frozenset[str] = frozenset(),
    ) -> None:
        self._own, self._prompts, self.placement, self._things = own, prompts, placement, things
        self._known: OrderedDict[bytes, dict[str, AskedTask]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, vocabulary: RequestVocabulary) -> Mapping[str, AskedTask]:
        """Task -> what it is asked, of every list that the vocabulary has."""
        with self._lock:
            found = self._known.get(vocabulary.digest)
            if found is not None:
                self._known.move_to_end(vocabulary.digest)
                return found
        fitted = {task: (scale, bias) for task, scale, bias in vocabulary.calibration}
        made = {
            task: self._understood(task, words, fitted.get(task))
            for task in MEMBERS
            if (words := vocabulary.words(task)) is not None
        }
        with self._lock:
            self._known[vocabulary.digest] = made
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return made

    def unknown(self, vocabulary: RequestVocabulary) -> tuple[UnknownWord, ...]:
        """Its words that the model knows nothing about, each once, in order."""
        found = {each.name: each for task in self.of(vocabulary).values() for each in task.unknown}
        return tuple(found.values())

    def _understood(self, task: str, words: Words, calibration: tuple[float, float] | None) -> AskedTask:
        parts = _Parts()
        for index in range(len(words)):
            word: Word | AttributeWord = words[index]
            if isinstance(word, AttributeWord):
                self._add_attribute(parts, index, word)
            else:
                self._add_word(parts, index, word, task)
        placed: Sequence[Any] = () if self.placement is None else self.placement.place(parts.to_place)
        unknown = _unplaced(words, parts, placed) if self.placement is not None else ()
        names = [word.attribute.name if isinstance(word, AttributeWord) else word.name for word in words]
        return AskedTask(
            tuple(names),
            np.array([np.nan if word.threshold is None else word.threshold for word in words], np.float32),
            calibration,
            tuple(word.attribute for word in words if isinstance(word, AttributeWord)),
            tuple(parts.prompts),
            np.array(list(parts.starts), np.int64),
            np.array(list(parts.starts.values()), np.int64),
            tuple(placed),
            np.array(parts.to_place_owner, np.int64),
            parts.colours,
            unknown,
        )

    def _add_word(self, parts: _Parts, index: int, word: Word, task: str) -> None:
        texts = (word.name, *word.synonyms)
        if self.placement is None:
            text_of = self._prompts.category_text if task == CategoriesTask.name else self._prompts.tag_text
            parts.add_prompts(index, map(text_of, texts))
            return
        for text in texts:
            own = self._own_tags.get(_folded(text)) if task == TagsTask.name else None
            if own is None:
                parts.add_place(index, text)
            else:
                parts.add_prompts(index, [self._prompts.tag_text(own)])
                if own in self._own_colours:
                    parts.colours[index] = own

    def _add_attribute(self, parts: _Parts, index: int, word: AttributeWord) -> None:
        attribute = word.attribute
        template = attribute.template if word.own_template else self._templates.get(attribute.type, attribute.template)
        values = attribute.synonyms
        if self.placement is not None:
            values = tuple(_folded(value) for value in values if (_folded(value), template) in self._own_values)
            for value in values:
                if value in self._own_colours:
                    parts.colours[index] = self._own_colours[value]
            if not values:
                near = _nearest(attribute.synonyms, [value for value, _ in self._own_values])
                parts.unknown.append((index, near))
                return
        parts.add_prompts(index, self._prompts.attribute(Attribute(attribute.name, attribute.type, values, template)))

    @cached_property
    def _templates(self) -> dict[str, Any]:
        """Type -> the template of the model's own attributes of that type."""
        return {attribute.type: attribute.template for attribute in self._own.attributes}

    @cached_property
    def _own_values(self) -> frozenset[tuple[str, str]]:
        """What the text tower was trained on: values and synonyms, each with its template."""
        return frozenset((_folded(each), of.template) for of in self._own.attributes for each in of.synonyms)

    @cached_property
    def _own_colours(self) -> dict[str, str]:
        """A colour or a synonym of one -> the colour."""
        return {_folded(each): of.value for of in self._own.attributes if of.type == "color" for each in of.synonyms}

    @cached_property
    def _own_tags(self) -> dict[str, str]:
        """Own tags that are no names of things, by how they compare."""
        return {_folded(tag): tag for tag in self._own.tags if tag not in self._things}


class _Parts:
    """What is gathered word by word."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.starts: dict[int, int] = {}
        self.to_place: list[str] = []
        self.to_place_owner: list[int] = []
        self.colours: dict[int, str] = {}
        self.unknown: list[tuple[int, tuple[str, ...]]] = []

    def add_prompts(self, index: int, texts: Any) -> None:
        self.starts.setdefault(index, len(self.prompts))
        self.prompts.extend(texts)

    def add_place(self, index: int, text: str) -> None:
        self.to_place.append(text)
        self.to_place_owner.append(index)


def _unplaced(words: Words, parts: _Parts, placed: Sequence[Placed]) -> tuple[UnknownWord, ...]:
    """Words that have neither prompts nor a place, under any of their names."""
    near: dict[int, tuple[str, ...]] = dict(parts.unknown)
    somewhere = {owner for owner, each in zip(parts.to_place_owner, placed, strict=True) if each.via != "none"}
    for owner, each in zip(parts.to_place_owner, placed, strict=True):
        if owner not in somewhere and owner not in parts.starts:
            near.setdefault(owner, tuple(each.nearest))
    names = [word.attribute.name if isinstance(word, AttributeWord) else word.name for word in words]
    return tuple(UnknownWord(names[index], near[index][:_NEAREST]) for index in sorted(near))


def _nearest(texts: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    return tuple(difflib.get_close_matches(_folded(texts[0]), sorted(set(own)), n=_NEAREST))


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
