"""The words of a caption that say something, found by rule: no parser, no dictionary of the language.

What the model knows is found first, as the longest sequence of words that its lists hold, in the plural too. Of what
is left, the words that only join others are passed over. The rest is of no list: nobody can say here whether such a
word is a noun, so it is called unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NOUN, PROPERTY, UNKNOWN = "noun", "property", "unknown"

_TOKEN = re.compile(r"[\w'-]+")
# Articles, pronouns, prepositions, conjunctions, auxiliaries, numbers; and "object", which is true of everything.
_FUNCTION_WORDS = """
    a an the this that these those some any each every both all no not another other others one ones it its itself
    he she his her him they them their there here who which what whose where when while of in on at to from with
    without by for into onto over under above below behind beside besides between among near next front back top
    bottom side left right against around across along through inside outside up down off out and or but as than
    then so is are was were be been being am has have having had do does did can could will would may might must
    it's very too also just only more most less least much many few several two three four five six seven eight nine
    ten object objects thing things piece pair
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True, slots=True)
class KnownWord:
    """What a word of a list says. kind: `NOUN` or `PROPERTY`. labels: the labels that say the same."""

    kind: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundWord:
    """A word, or several that are one, at [start, end) characters. known: None for an `UNKNOWN` one."""

    text: str
    start: int
    end: int
    known: KnownWord | None

    @property
    def kind(self) -> str:
        """NOUN, PROPERTY or UNKNOWN."""
        return UNKNOWN if self.known is None else self.known.kind


def found_words(text: str, known: Mapping[str, KnownWord]) -> Iterator[FoundWord]:
    """The words of a text, in order. known: in lower case, by single spaces."""
    most_words = max((word.count(" ") + 1 for word in known), default=1)
    tokens = list(_TOKEN.finditer(text))
    place = 0
    while place < len(tokens):
        for count in range(min(most_words, len(tokens) - place), 0, -1):
            start, end = tokens[place].start(), tokens[place + count - 1].end()
            found = _look_up(" ".join(each.group().lower() for each in tokens[place : place + count]), known)
            if found is not None:
                yield FoundWord(text[start:end], start, end, found)
                break
        else:
            count, (start, end) = 1, tokens[place].span()
            if not is_function_word(text[start:end]):
                yield FoundWord(text[start:end], start, end, None)
        place += count


def is_function_word(word: str) -> bool:
    """Whether it says nothing by itself; figures do not either."""
    return word.lower() in FUNCTION_WORDS or word.isdigit()


def _look_up(phrase: str, known: Mapping[str, KnownWord]) -> KnownWord | None:
    for form in (phrase, *_singulars(phrase)):
        if form in known:
            return known[form]
    return None


def _singulars(phrase: str) -> Iterator[str]:
    """What the phrase may be the plural of."""
    if phrase.endswith("ies"):
        yield phrase[:-3] + "y"
    if phrase.endswith("ves"):
        yield phrase[:-3] + "f"
        yield phrase[:-3] + "fe"
    if phrase.endswith("es"):
        yield phrase[:-2]
    if phrase.endswith("s"):
        yield phrase[:-1]
