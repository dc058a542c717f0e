"""Vocabularies that have a name: those that ship, and those of JSON files of the server's owner.

A file is an object with `name`, what `vocabulary_entries.py` reads (`categories`, `attributes`, `tags`), and optionally
`description`, `licence`, `thresholds` (task -> least score of the words that have none of their own) and `calibration`
(task -> {"scale", "bias"}: probability = sigmoid or softmax of scale * logit + bias). No torch.

Shipped: "model", the loaded model's own words; "everyday", the embedded model's names for photographs; and the files in
`vocabularies/`. They are read when they are first asked for.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from dynrefer.model.errors import ConfigError
from dynrefer.model.model_files import read_json_object
from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary, Word, Words
from dynrefer.model.translations import Translations
from dynrefer.model.vocabulary_entries import (
    VOCABULARY_MEMBERS,
    UnknownVocabularyError,
    VocabularyError,
    no_names,
    read_vocabulary,
)

OWN = "model"  # the name of the loaded model's own vocabulary
EVERYDAY = "everyday"
_SHIPPED = Path(__file__).parent / "vocabularies"
_EMBEDDED = Path(__file__).parent / "embedded"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEYS = ("name", "description", "licence", *VOCABULARY_MEMBERS, "thresholds", "calibration")
_MOST_WORDS = 100_000  # of a file


@dataclass(frozen=True)
class NamedVocabulary:
    """words: empty for the model's own. licence: of the list, where it is not the server owner's own."""

    name: str
    description: str
    words: RequestVocabulary
    licence: str = ""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Task -> number of words, of the lists that it has."""
        return {task: len(found) for task in VOCABULARY_MEMBERS if (found := self.words.words(task)) is not None}

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Those in which there is a translation of any word, sorted."""
        lists = (self.words.words(task) or () for task in VOCABULARY_MEMBERS)
        return tuple(sorted({tag for words in lists for word in words for tag, _ in word.translations}))


class NamedVocabularies:
    """All that a server knows. Safe to use from several threads."""

    def __init__(self, given: Iterable[NamedVocabulary] = ()) -> None:
        """given: beside the shipped ones, under names of their own."""
        self._found: dict[str, Callable[[], NamedVocabulary]] = dict(_shipped())
        self._given = tuple(given)
        for each in self._given:
            self._found[each.name] = lambda each=each: each  # type: ignore[misc]  # mypy types no default of a lambda

    def __reduce__(self) -> tuple[type[NamedVocabularies], tuple[tuple[NamedVocabulary, ...]]]:
        """For other processes, which have those that ship."""
        return type(self), (self._given,)

    @classmethod
    def load(cls, paths: Sequence[str | Path]) -> NamedVocabularies:
        """paths: JSON files, and folders of such. Raises `ConfigError` with the file, the entry and what is wrong."""
        origin: dict[str, str] = dict.fromkeys(_shipped(), "a vocabulary that ships")
        found = []
        for path in paths:
            for file in _files(Path(path)):
                read = read_named(file)
                if read.name in origin:
                    raise ConfigError(
                        f"the vocabulary {file}: its name {read.name!r} is that of {origin[read.name]}; choose another."
                    )
                origin[read.name] = str(file)
                found.append(read)
        return cls(found)

    @property
    def names(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(self._found))

    def get(self, name: str) -> NamedVocabulary | None:
        """By its name, or None."""
        return self._found[name]() if name in self._found else None

    def nearest(self, name: str) -> str | None:
        """The name that is spelled most like this one, if any is."""
        return next(iter(difflib.get_close_matches(name[:64], self.names, n=1)), None)

    def resolve(self, name: str) -> RequestVocabulary:
        """See `ResolveVocabulary`: raises `UnknownVocabularyError`."""
        found = self.get(name)
        if found is None:
            raise UnknownVocabularyError.of(name, self.names)
        return found.words


def read_named(path: Path) -> NamedVocabulary:
    """A file. Raises `ConfigError`, and `ModelNotFoundError` if there is none."""
    data = read_json_object(path, "vocabulary")
    where = f"the vocabulary {path}"
    for key in data:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it may hold {', '.join(_KEYS)}."
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    name = data.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f'{where}: "name" must be 1 to 64 letters, digits, dots, - and _, a letter or digit first.')
    texts = {key: data.get(key, "") for key in ("description", "licence")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ConfigError(f"{where}: {key!r} must be a text.")
    members = {key: data[key] for key in VOCABULARY_MEMBERS if key in data}
    if sum(len(each) for each in members.values() if isinstance(each, list)) > _MOST_WORDS:
        raise ConfigError(f"{where} has more than {_MOST_WORDS} words; split it into several.")
    try:
        words = read_vocabulary(members, no_names)
    except VocabularyError as error:
        flaw = error.flaws[0]
        raise ConfigError(f"{where}{f', at {flaw.pointer}' if flaw.pointer else ''}: {flaw.sentence}") from None
    words = _with_thresholds(words, _thresholds(data.get("thresholds", {}), words, where))
    return NamedVocabulary(
        name, texts["description"], replace(words, calibration=_calibration(data.get("calibration", {}), words, where)),
        texts["licence"],
    )  # fmt: skip


def _thresholds(given: Any, words: RequestVocabulary, where: str) -> dict[str, float]:
    for task, value in _by_task(given, words, f"{where}: thresholds").items():
        if not _is_number(value):
            raise ConfigError(f"{where}: thresholds.{task} must be a finite number.")
    return {task: float(value) for task, value in given.items()}


def _calibration(given: Any, words: RequestVocabulary, where: str) -> tuple[tuple[str, float, float], ...]:
    found = []
    for task, pair in _by_task(given, words, f"{where}: calibration").items():
        if not isinstance(pair, dict) or set(pair) != {"scale", "bias"} or not all(map(_is_number, pair.values())):
            raise ConfigError(f'{where}: calibration.{task} must be {{"scale": number, "bias": number}}.')
        if pair["scale"] <= 0:
            raise ConfigError(f"{where}: calibration.{task}.scale must be above 0: better scores are more probable.")
        found.append((task, float(pair["scale"]), float(pair["bias"])))
    return tuple(found)


def _by_task(given: Any, words: RequestVocabulary, where: str) -> Mapping[str, Any]:
    """An object whose keys are lists that the vocabulary has."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where} must be an object, by categories, attributes or tags.")
    for task in given:
        if words.words(task) is None:
            raise ConfigError(f"{where} holds {task!r}, which is no list of this vocabulary; remove it.")
    return given


def _with_thresholds(words: RequestVocabulary, thresholds: Mapping[str, float]) -> RequestVocabulary:
    """Words that have no threshold get that of their list."""
    lists: dict[str, Any] = {}
    for task, least in thresholds.items():
        found: Words = words.words(task) or ()
        lists[task] = tuple(each if each.threshold is not None else replace(each, threshold=least) for each in found)
    return replace(words, **lists)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _files(path: Path) -> list[Path]:
    """The file, or the JSON files of the folder, sorted."""
    try:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
    except OSError:
        raise ConfigError(f"the folder of vocabularies {path} cannot be read.") from None
    if not found:
        raise ConfigError(f"the folder of vocabularies {path} holds no .json file.")
    return found


@cache
def _shipped() -> Mapping[str, Callable[[], NamedVocabulary]]:
    """Name -> what reads it, once."""
    files = {path.stem: path for path in sorted(_SHIPPED.glob("*.json"))}
    return {
        OWN: cache(lambda: NamedVocabulary(OWN, "The loaded model's own words.", RequestVocabulary())),
        EVERYDAY: cache(_everyday),
        **{name: cache(lambda path=path: _translated(read_named(path))) for name, path in files.items()},
    }


def _everyday() -> NamedVocabulary:
    """The names that the embedded model has for photographs, without their synonyms, which stay its own business."""
    from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames

    names = EvidenceNames.load(_EMBEDDED / "evidence" / NAMES_FILE).names
    description = "Everyday names of things, those that the embedded model has for photographs."
    words = RequestVocabulary(categories=tuple(Word(each.name) for each in names))
    return _translated(NamedVocabulary(EVERYDAY, description, words))


def _translated(found: NamedVocabulary) -> NamedVocabulary:
    """With the translations that ship, of categories that have none."""
    shipped = _shipped_translations()

    def translated(word: Word) -> Word:
        pairs = tuple(sorted(shipped.of("categories", word.name).items()))
        return word if word.translations else replace(word, translations=pairs)

    words = found.words
    if words.categories is None:
        return found
    return replace(found, words=replace(words, categories=tuple(map(translated, words.categories))))


@cache
def _shipped_translations() -> Translations:
    return Translations.load(_EMBEDDED)


def written_words(words: Words) -> list[dict[str, Any]]:
    """Words as a file or an answer writes them, without what they do not have."""
    return [_entry(word) for word in words]


def _entry(word: Word | AttributeWord) -> dict[str, Any]:
    found: dict[str, Any]
    if isinstance(word, AttributeWord):
        found = {"name": word.attribute.name, "synonyms": list(word.attribute.synonyms[1:])}
        if word.own_template:
            found["template"] = word.attribute.template
    else:
        found = {"name": word.name, "synonyms": list(word.synonyms)}
    found |= {"translations": dict(word.translations), "threshold": word.threshold}
    return {key: value for key, value in found.items() if value not in ([], {}, None)}
