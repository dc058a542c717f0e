"""The words of a model's own vocabulary in other languages, and names of an answer in the language that was asked for.

Languages are tags as in BCP 47, compared in lower case, and looked up as in RFC 4647, section 3.4: "zh-Hans-CN" finds
"zh-hans", else "zh". No torch, no NumPy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.errors import ConfigError
from dynrefer.model.model_files import read_json_object
from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary

if TYPE_CHECKING:
    from dynrefer.model.types import RegionDescription

TRANSLATIONS_FILE = "translations.json"
ENGLISH = "en"  # of a model's own names, and of captions
_KINDS = ("objects", "properties", "attributes")
_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

ByLanguage = Mapping[str, str]


def is_language(tag: str) -> bool:
    """Whether it has the form of a language's tag, such as "de" or "zh-Hans"."""
    return len(tag) <= 64 and _TAG.fullmatch(tag) is not None


@dataclass(frozen=True)
class Translations:
    """English name -> language -> word.

    objects: categories, and tags that are things. properties: other tags, such as colours. attributes: by "type:value".
    """

    objects: Mapping[str, ByLanguage] = field(default_factory=dict)
    properties: Mapping[str, ByLanguage] = field(default_factory=dict)
    attributes: Mapping[str, ByLanguage] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: str | Path) -> Translations:
        """Of a model directory; empty where it has none. Raises `ConfigError` for a malformed file."""
        path = Path(directory) / TRANSLATIONS_FILE
        if not path.is_file():
            return NO_TRANSLATIONS
        data = read_json_object(path, "translations")
        unknown = next((key for key in data if key not in _KINDS), None)
        if unknown is not None:
            raise ConfigError(f"unknown key {unknown!r} in {path}; it may hold {', '.join(_KINDS)}.")
        for kind, words in data.items():
            _check(words, f"{kind} in {path}")
        return cls(**data)

    def save(self, directory: str | Path) -> None:
        """Write the file, unless there is nothing to write."""
        found = {kind: getattr(self, kind) for kind in _KINDS if getattr(self, kind)}
        if found:
            text = json.dumps(found, ensure_ascii=False, indent=0, sort_keys=True)
            (Path(directory) / TRANSLATIONS_FILE).write_text(text + "\n", encoding="utf-8")

    @cached_property
    def languages(self) -> frozenset[str]:
        """Those in which there is any word."""
        kinds = (self.objects, self.properties, self.attributes)
        return frozenset(language for words in kinds for found in words.values() for language in found)

    def of(self, task: str, name: str, domain: str | None = None) -> ByLanguage:
        """Of a name in a task's result; nothing where it is not known which of two meanings a tag has.

        domain: of the region. A tag of a drawing is never a thing that has the name of a property ("orange").
        """
        if task == "attributes":
            return self.attributes.get(name, {})
        thing = self.objects.get(name, {})
        if task != "tags":
            return thing
        other = self.properties.get(name, {})
        if thing and other:
            return {} if domain == "photograph" else other
        return thing or other


NO_TRANSLATIONS = Translations()


class Translator:
    """Writes the names of an answer in the first of some languages in which there are any.

    language: that language, as it was asked for; None where there is none, or none was asked for.
    """

    def __init__(
        self,
        ranges: Sequence[str],
        vocabulary: RequestVocabulary | None,
        own: Translations,
        tasks: Sequence[str] | None = None,
    ) -> None:
        """ranges: the languages that were asked for, the preferred first. vocabulary: the request's; own: the model's,
        for lists that the request did not bring. tasks: those whose names are in the answer; None: all."""
        self._own = own
        self._given: dict[str, dict[str, ByLanguage]] = {}
        available = {ENGLISH}
        for task in ("categories", "attributes", "tags"):
            if tasks is not None and task not in tasks:
                continue
            words = None if vocabulary is None else vocabulary.words(task)
            if words is None:
                available |= own.languages
                continue
            self._given[task] = {_name(word): dict(word.translations) for word in words if word.translations}
            available.update(language for found in self._given[task].values() for language in found)
        found = (wanted for wanted in ranges if any(each in available for each in _lookup(wanted)))
        self.language = next(found, None)

    def described(self, found: RegionDescription) -> RegionDescription:
        """With the names of its tags, attributes and categories; captions stay as they are, in English."""
        if self.language is None:
            return found
        results = {
            task: tuple(self._label(task, each, found.domain) for each in result)
            if isinstance(result, tuple)
            else result
            for task, result in found.results.items()
        }
        return replace(found, results=results)

    def _label(self, task: str, label: Any, domain: str | None) -> Any:
        word = self._word(task, label.name, domain)
        if word is None:
            return label
        if task != "attributes":
            return replace(label, name=word)
        kind, separator, value = word.partition(":")
        if not separator:
            kind, value = label.type, word
        return replace(label, name=f"{kind}:{value}", type=kind, value=value)

    def _word(self, task: str, name: str, domain: str | None) -> str | None:
        given = self._given.get(task)
        words = self._own.of(task, name, domain) if given is None else given.get(name, {})
        assert self.language is not None
        return next((words[each] for each in _lookup(self.language) if each in words), None)


def _name(word: Any) -> str:
    return word.attribute.name if isinstance(word, AttributeWord) else word.name


def _lookup(language: str) -> Iterator[str]:
    """The tag, and shorter ones, in lower case; a part of one letter goes with the one behind it."""
    parts = language.lower().split("-")
    while parts:
        yield "-".join(parts)
        parts.pop()
        while parts and len(parts[-1]) == 1:
            parts.pop()


def _check(words: Any, where: str) -> None:
    listed = list(words.values()) if isinstance(words, dict) else [None]
    if not all(isinstance(found, dict) and all(map(_is_pair, found.items())) for found in listed):
        raise ConfigError(f'{where} must map names to objects such as {{"de": "Hund"}}, with languages in lower case.')


def _is_pair(pair: tuple[str, Any]) -> bool:
    tag, word = pair
    return is_language(tag) and tag == tag.lower() and isinstance(word, str) and word != ""
