"""Noun phrases in English: the article before a noun, and a noun put in for the placeholder of a caption.

An article is "a" (also for "an"), "a pair of", "a glass of" and the like, or "" before plurals and mass nouns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# The words for colours that captions use.
COLOURS = frozenset(
    {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "grey"}
)

_ARTICLE = re.compile(r"|a|a [a-z]+ of")
# Letters and sounds differ: "a unicycle", "a european", "a one-piece", "an hourglass".
_VOWEL = re.compile(r"(?!uni(?![mn])|use|usb|util|eu|ewe|one\b)[aeiou]|hour|honest|heir|x-ray", re.IGNORECASE)
# Words that are no adjectives: the search for the placeholder's article ends there.
_NO_ADJECTIVE = re.compile(
    r"a|an|the|another|and|or|of|in|on|at|to|with|without|by|from|for|behind|under|above|below|over|near|beside|between"
    r"|next|left|right|front|is|are|was|were|has|have",
    re.IGNORECASE,
)
_WORD = re.compile(r"[\w'-]+")
_WORDS_AT_END = re.compile(r"(?:[\w'-]+ )+$")


@dataclass(frozen=True)
class Noun:
    """What a noun needs in a sentence. holds_colour: the name holds a colour ("red panda"); none is said before it."""

    name: str
    article: str = "a"
    holds_colour: bool = False


def is_article(text: str) -> bool:
    """Whether a text is an article as this module understands it."""
    return _ARTICLE.fullmatch(text) is not None


def noun_phrase(noun: Noun, adjectives: Sequence[str] = ()) -> str:
    """Article, adjectives, noun: "an owl", "a brown owl", "a pair of red scissors", "a large glass of red wine"."""
    said = _fitting(noun, adjectives)
    measure = noun.article.removeprefix("a").split()  # "pair of"
    # A pair has the adjectives of what is in it, a glass of wine or a piece of clothing those of the whole.
    words = [*measure, *said] if noun.article == "a pair of" else [*said, *measure]
    phrase = " ".join([*words, noun.name])
    return f"{_indefinite(phrase)} {phrase}" if noun.article else phrase


def put_noun(text: str, noun: Noun, placeholder: str) -> str:
    """The text with the noun in place of the first placeholder, and with the article that the noun takes.

    The placeholder stands where a singular noun does, behind "a", adjectives or nothing. "a large ~ on grass" becomes
    "a large owl on grass", "large broccoli on grass", "a pair of large scissors on grass". "the", "another" and the
    like stay. Any further placeholder becomes "one", and "another one" behind a bare "a": the noun is said once.
    Without a placeholder the text comes back as it is.
    """
    before, found, after = text.partition(placeholder)
    if not found:
        return text
    start, adjectives, articled = _phrase_before(before)
    phrase = noun_phrase(noun, adjectives) if articled else " ".join([*_fitting(noun, adjectives), noun.name])
    if before[start : start + 1].isupper():
        phrase = phrase[0].upper() + phrase[1:]
    return before[:start] + phrase + _say_one(after, placeholder)


def _phrase_before(text: str) -> tuple[int, list[str], bool]:
    """Where the phrase before the placeholder begins, its adjectives, and whether an indefinite article opens it."""
    run = _WORDS_AT_END.search(text)
    words = [(match.start(), match.group()) for match in _WORD.finditer(text, run.start() if run else len(text))]
    adjectives: list[str] = []
    start = len(text)
    while words and not _NO_ADJECTIVE.fullmatch(words[-1][1]):
        start, adjective = words.pop()
        adjectives.insert(0, adjective)
    said = [word.lower() for _, word in words[-3:]]
    if said[-1:] in (["a"], ["an"]):
        return words[-1][0], adjectives, True
    if said in (["a", "pair", "of"], ["a", "piece", "of"]):
        return words[-3][0], adjectives, True
    return start, adjectives, False


def _fitting(noun: Noun, adjectives: Sequence[str]) -> list[str]:
    """Without colours, if the noun holds one: nobody says "a brown red panda"."""
    return [word for word in adjectives if not (noun.holds_colour and word.lower() in COLOURS)]


def _say_one(text: str, placeholder: str) -> str:
    mark = re.escape(placeholder)
    return re.sub(mark, "one", re.sub(rf"\ban? {mark}", "another one", text))


def _indefinite(phrase: str) -> str:
    return "an" if _VOWEL.match(phrase) else "a"
