"""A vocabulary that a request brings, or names: words of the client's own in place of the model's.

Plain records that pickle and compare by value; no torch, no NumPy. `vocabulary_entries.py` makes them of JSON. What the
words mean to a model is decided elsewhere: `asked_words.py` says which texts stand for them, `text_embeddings.py`
embeds those, `evidence/word_placement.py` places words among what the embedded model knows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

from dynrefer.model.records import JsonRecord
from dynrefer.model.vocabulary import Attribute


@dataclass(frozen=True, slots=True)
class Word:
    """A category or a tag.

    name: what answers say, the client's own spelling. synonyms: other words for it; the best of all counts.
    translations: (language, word) pairs, sorted; languages as in BCP 47, lower case.
    threshold: only scores strictly above are returned, unless the request sets a threshold; None: the task's default.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    translations: tuple[tuple[str, str], ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class AttributeWord:
    """An attribute of a request, "type:value/synonym/...", with what `Word` has beside its name.

    attribute: its name, type, synonyms and template. name in answers: "type:value", as the client wrote them.
    own_template: whether the client chose the template; else it is that of the type in the model's own vocabulary,
    where the model has the type.
    """

    attribute: Attribute
    translations: tuple[tuple[str, str], ...] = ()
    threshold: float | None = None
    own_template: bool = False


Words = tuple[Word, ...] | tuple[AttributeWord, ...]


@dataclass(frozen=True)
class RequestVocabulary:
    """Words per task; None where the model's own stay, as all do in the vocabulary that is named "model".

    calibration: (task, scale, bias): probability = sigmoid or softmax of scale * logit + bias, as fitted for a named
    vocabulary; a task that is not in it keeps the model's calibration.

    It travels between processes as one text, and within a process equal ones that came so are one object: the regions
    of a request share theirs.
    """

    categories: tuple[Word, ...] | None = None
    attributes: tuple[AttributeWord, ...] | None = None
    tags: tuple[Word, ...] | None = None
    calibration: tuple[tuple[str, float, float], ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is the model's own in everything."""
        return self.categories is None and self.attributes is None and self.tags is None

    def words(self, task: str) -> Words | None:
        """Those of a task, None where the model's own stay."""
        found: tuple[Word, ...] | tuple[AttributeWord, ...] | None = (
            getattr(self, task, None) if task in _MEMBERS else None
        )
        return found

    @cached_property
    def packed(self) -> bytes:
        """All of it as one text."""
        members = [_listed(self.words(task)) for task in _MEMBERS]
        return json.dumps([*members, self.calibration], ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        return hashlib.sha256(self.packed).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[_Packed], tuple[bytes]]:
        _here.setdefault(self.packed, self)
        return _Packed, (self.packed,)


class _Packed:
    """A class, as it is called where only classes of records may be: where messages of worker processes are read."""

    def __new__(cls, packed: bytes) -> RequestVocabulary:  # type: ignore[misc]  # that is its purpose
        found = _here.get(packed)
        if found is None:
            categories, attributes, tags, calibration = json.loads(packed)
            found = RequestVocabulary(
                _words(categories),
                None if attributes is None else tuple(map(_attribute, attributes)),
                _words(tags),
                tuple((task, scale, bias) for task, scale, bias in calibration),
            )
            _here[packed] = found
        return found


@dataclass(frozen=True, slots=True)
class UnknownWord(JsonRecord):
    """A word of a request that the model knows nothing about, so that no score is given for it.

    nearest: words of the model's own that it may be a misspelling of, the nearest first.
    """

    name: str
    nearest: tuple[str, ...] = ()


_MEMBERS = ("categories", "attributes", "tags")
# Vocabularies of requests that are being worked on, by what they travel as.
_here: WeakValueDictionary[bytes, RequestVocabulary] = WeakValueDictionary()


def _listed(words: Words | None) -> list[Any] | None:
    if words is None:
        return None
    return [
        [each.name, each.synonyms, each.translations, each.threshold]
        if isinstance(each, Word)
        else [
            [each.attribute.name, each.attribute.type, each.attribute.synonyms, each.attribute.template],
            each.translations,
            each.threshold,
            each.own_template,
        ]
        for each in words
    ]


def _words(listed: list[Any] | None) -> tuple[Word, ...] | None:
    if listed is None:
        return None
    return tuple(Word(name, tuple(synonyms), _pairs(pairs), least) for name, synonyms, pairs, least in listed)


def _attribute(listed: list[Any]) -> AttributeWord:
    (name, kind, synonyms, template), pairs, least, own = listed
    return AttributeWord(Attribute(name, kind, tuple(synonyms), template), _pairs(pairs), least, own)


def _pairs(listed: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((language, word) for language, word in listed)
