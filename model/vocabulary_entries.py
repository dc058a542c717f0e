"""Vocabularies as JSON writes them -> `RequestVocabulary`, or every flaw with its place.

One grammar for requests, for Python's arguments and for files of named vocabularies: a member is a list of words, each
a text or {"name", "synonyms", "translations", "threshold"}; an attribute's text is "type:value/synonym/...", and it may
have a "template". No torch.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast, get_args

from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary, Word
from dynrefer.model.vocabulary import Attribute, Template

VOCABULARY_MEMBERS = ("categories", "attributes", "tags")
ENTRY_KEYS = ("name", "synonyms", "translations", "threshold")
MAX_FLAWS = 20
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_SHOWN = 40  # characters of a word in a sentence
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, half of a pair, line separators

ResolveVocabulary = Callable[[str], RequestVocabulary]


@dataclass(frozen=True, slots=True)
class VocabularyLimits:
    """words: the most of a vocabulary, all lists and synonyms counted. chars: of a word, of its type, of a synonym."""

    words: int = 2_000
    chars: int = 64


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong, and where: a JSON pointer from the vocabulary on ("/categories/3")."""

    pointer: str
    sentence: str


class VocabularyError(ValueError):
    """A vocabulary that cannot be used. flaws: at least one, in order."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        super().__init__(flaws[0].sentence)
        self.flaws = tuple(flaws)


class UnknownVocabularyError(LookupError):
    """A name that no vocabulary has; the message is the sentence for the client."""

    @classmethod
    def of(cls, name: str, known: Sequence[str]) -> UnknownVocabularyError:
        """With the nearest of the known names, and all of them where they are few."""
        near = difflib.get_close_matches(name[:64], known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(known[:20]) if known else "none"
        return cls(f"There is no vocabulary '{_short(name)}'; this server knows: {listed}.{hint}")


def no_names(name: str) -> RequestVocabulary:
    """`ResolveVocabulary` where there are no named vocabularies."""
    raise UnknownVocabularyError.of(name, ())


def read_vocabulary(
    document: Any, resolve: ResolveVocabulary = no_names, limits: VocabularyLimits | None = None
) -> RequestVocabulary:
    """document: the name of a vocabulary, or an object of `VOCABULARY_MEMBERS`, each a list of words or such a name.

    limits: None for a vocabulary that the server's owner wrote. Raises `VocabularyError`.
    """
    reader = _Reader(resolve, limits)
    found = reader.vocabulary(document)
    if reader.flaws or found is None:
        raise VocabularyError(reader.flaws)
    return found


class _Reader:
    def __init__(self, resolve: ResolveVocabulary, limits: VocabularyLimits | None) -> None:
        self._resolve, self._limits = resolve, limits
        self._left = math.inf if limits is None else limits.words
        self.flaws: list[Flaw] = []

    def vocabulary(self, document: Any) -> RequestVocabulary | None:
        if isinstance(document, str):
            return self._named(document, "")
        if not isinstance(document, Mapping):
            self._flaw("", "A vocabulary is an object with categories, attributes or tags, or a name.")
            return None
        for key in islice((key for key in document if key not in VOCABULARY_MEMBERS), MAX_FLAWS):
            self._flaw(f"/{_escaped(key)}", _unknown(key, VOCABULARY_MEMBERS))
        given = {name: document[name] for name in VOCABULARY_MEMBERS if document.get(name) is not None}
        if not given and not self.flaws:
            self._flaw("", "A vocabulary needs at least one of categories, attributes and tags.")
            return None
        found, calibration = dict[str, Any](), list[tuple[str, float, float]]()
        for name, value in given.items():
            if isinstance(value, str):
                named = self._named(value, f"/{name}")
                words = None if named is None else named.words(name)
                if named is not None and words is None and not named.is_own:
                    self._flaw(f"/{name}", f"The vocabulary '{_short(value)}' has no {name}.")
                elif named is not None:
                    calibration += [each for each in named.calibration if each[0] == name]
                found[name] = words
            else:
                found[name] = self._list(value, name)
        return None if self.flaws else RequestVocabulary(**found, calibration=tuple(calibration))

    def _named(self, name: str, pointer: str) -> RequestVocabulary | None:
        try:
            return self._resolve(name)
        except UnknownVocabularyError as error:
            self._flaw(pointer, str(error))
            return None

    def _list(self, value: Any, member: str) -> tuple[Word | AttributeWord, ...] | None:
        if not isinstance(value, list | tuple):
            self._flaw(f"/{member}", f"{member} is a list of words, or the name of a vocabulary.")
            return None
        if not value:
            self._flaw(f"/{member}", f"{member} holds no word; leave it out to keep the model's own.")
            return None
        read = self._attribute if member == "attributes" else self._word
        seen: dict[tuple[str, str], str] = {}
        found = []
        for index, each in enumerate(value):
            if len(self.flaws) >= MAX_FLAWS:
                break
            pointer = f"/{member}/{index}"
            entry = self._entry(each, pointer, ("template",) if member == "attributes" else ())
            word = None if entry is None else read(entry, pointer)
            if word is None:
                continue
            self._count(word, member)
            if self._left < 0:
                break
            self._distinct(word, pointer, seen)
            found.append(word)
        return tuple(found)

    def _entry(self, given: Any, pointer: str, more: tuple[str, ...]) -> Mapping[str, Any] | None:
        """A word as an object, whose keys are known."""
        if isinstance(given, str):
            return {"name": given}
        keys = (*ENTRY_KEYS, *more)
        if not isinstance(given, Mapping):
            self._flaw(pointer, f"A word is a text, or an object with {', '.join(keys)}.")
            return None
        unknown = list(islice((key for key in given if key not in keys), MAX_FLAWS))
        for key in unknown:
            self._flaw(f"{pointer}/{_escaped(key)}", _unknown(key, keys))
        if "name" not in given:
            self._flaw(f"{pointer}/name", "This field is required.")
            return None
        return None if unknown else given

    def _word(self, entry: Mapping[str, Any], pointer: str) -> Word | None:
        before = len(self.flaws)
        name = self._text(entry["name"], f"{pointer}/name" if len(entry) > 1 else pointer, "A word")
        synonyms = self._synonyms(entry.get("synonyms"), pointer)
        found = self._translations(entry.get("translations"), pointer), self._threshold(entry.get("threshold"), pointer)
        if len(self.flaws) > before or name is None:
            return None
        return Word(name, synonyms, *found)

    def _attribute(self, entry: Mapping[str, Any], pointer: str) -> AttributeWord | None:
        before, place = len(self.flaws), f"{pointer}/name" if len(entry) > 1 else pointer
        given = entry["name"]
        if not isinstance(given, str):
            self._flaw(place, 'An attribute is a text, "type:value" or "type:value/synonym/...".')
            return None
        kind, separator, values = given.partition(":")
        parts = values.split("/")
        if not separator or not kind.strip() or not all(part.strip() for part in parts):
            self._flaw(
                place,
                f'The attribute \'{_short(given)}\' is not of the form "type:value" or "type:value/synonym/...".',
            )
            return None
        if len(parts) > self._left:
            self._too_many(place)
            return None
        for part in (kind, *parts):
            self._text(part, place, "Each part of an attribute")
        synonyms = (*parts, *self._synonyms(entry.get("synonyms"), pointer))
        template = entry.get("template")
        if template is not None and template not in get_args(Template):
            self._flaw(f"{pointer}/template", 'A template is "is" or "has".')
        translations = self._translations(entry.get("translations"), pointer)
        threshold = self._threshold(entry.get("threshold"), pointer)
        if len(self.flaws) > before:
            return None
        made = Attribute.from_benchmark(f"{kind}:{values}", cast("Template", template or "is"))
        rest = tuple(each for each in synonyms if each not in made.synonyms)
        attribute = replace(made, name=f"{kind}:{parts[0]}", synonyms=(*made.synonyms, *rest))
        return AttributeWord(attribute, translations, threshold, template is not None)

    def _synonyms(self, given: Any, pointer: str) -> tuple[str, ...]:
        if given is None:
            return ()
        if not isinstance(given, list | tuple):
            self._flaw(f"{pointer}/synonyms", "synonyms is a list of words.")
            return ()
        if len(given) > self._left:
            self._too_many(f"{pointer}/synonyms")
            return ()
        found = [self._text(each, f"{pointer}/synonyms/{index}", "A synonym") for index, each in enumerate(given)]
        return tuple(each for each in found if each is not None)

    def _translations(self, given: Any, pointer: str) -> tuple[tuple[str, str], ...]:
        if given is None:
            return ()
        where = f"{pointer}/translations"
        if not isinstance(given, Mapping) or len(given) > 100:
            self._flaw(where, 'translations is an object of at most 100 languages, such as {"de": "Hund"}.')
            return ()
        found = []
        for language, word in given.items():
            place = f"{where}/{_escaped(language)}"
            if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
                self._flaw(place, f"'{_short(language)}' is not the tag of a language, such as de or zh-Hans.")
            elif (text := self._text(word, place, "A translation")) is not None:
                found.append((language.lower(), text))
        return tuple(sorted(found))

    def _threshold(self, given: Any, pointer: str) -> float | None:
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) < 1e15:
            self._flaw(f"{pointer}/threshold", "A threshold is a finite number.")
            return None
        return float(given)

    def _text(self, given: Any, pointer: str, what: str) -> str | None:
        if not isinstance(given, str):
            self._flaw(pointer, f"{what} is a text.")
            return None
        most = None if self._limits is None else self._limits.chars
        if not given.strip():
            self._flaw(pointer, f"{what} must not be empty.")
            return None
        if most is not None and len(given) > most:
            self._flaw(pointer, f"{what} has at most {most} characters; '{_short(given)}' has {len(given)}.")
            return None
        if any(unicodedata.category(character) in _UNPRINTABLE for character in given):
            self._flaw(pointer, f"{what} must not hold control characters.")
            return None
        return given

    def _count(self, word: Word | AttributeWord, member: str) -> None:
        self._left -= len(word.attribute.synonyms) if isinstance(word, AttributeWord) else 1 + len(word.synonyms)
        if self._left < 0:
            self._too_many(f"/{member}")

    def _too_many(self, pointer: str) -> None:
        most = 0 if self._limits is None else self._limits.words
        self._flaw(pointer, f"A vocabulary has at most {most} words, synonyms counted.")

    def _distinct(self, word: Word | AttributeWord, pointer: str, seen: dict[tuple[str, str], str]) -> None:
        """No word twice, whatever its case, as a name or as a synonym; of attributes, within a type."""
        if isinstance(word, AttributeWord):
            kind, texts = word.attribute.type, word.attribute.synonyms
        else:
            kind, texts = "", (word.name, *word.synonyms)
        for text in texts:
            key = (_folded(kind), _folded(text))
            if key in seen:
                named = f"{kind}:{text}" if kind else text
                first = seen[key].rsplit("/", 1)[1]
                self._flaw(pointer, f"'{_short(named)}' stands twice in this list; the first time in item {first}.")
                return
            seen[key] = pointer

    def _flaw(self, pointer: str, sentence: str) -> None:
        if len(self.flaws) < MAX_FLAWS:
            self.flaws.append(Flaw(pointer, sentence))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()).casefold())


def _unknown(key: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(key)[:64], known, n=1)
    return f"Unknown field '{_short(key)}'." + (f" Did you mean '{near[0]}'?" if near else "")


def _short(value: object) -> str:
    """A client's text inside a sentence: printable, and not long."""
    text = "".join(each if each.isprintable() else "?" for each in str(value)[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _escaped(key: object) -> str:
    return _short(key).replace("~", "~0").replace("/", "~1")
