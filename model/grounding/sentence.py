"""A sentence -> its noun phrases, what describes each of them, and how they relate, by rule: no parser of the language.

    the small red cup left of the dogs   ->   "the small red cup": cup, small, red, left of #1;   "the dogs": dog, many

Words that join (prepositions, conjunctions, verbs of being) end a phrase; what stands between them is one. Its head is
what is left at the end when determiners, numbers and known modifiers are taken away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dynrefer.model.finding import NounPhrase

_TOKEN = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*|[,.;:!?()]")

# What is said of an object -> what attributes call it.
MODIFIERS: Mapping[str, str] = {
    **dict.fromkeys(("red", "crimson", "scarlet"), "red"),
    **{each: each for each in ("orange", "yellow", "green", "blue", "pink", "brown", "black", "white", "purple")},
    **dict.fromkeys(("violet",), "purple"),
    **dict.fromkeys(("gray", "grey"), "gray"),
    **dict.fromkeys(("small", "little", "tiny"), "small"),
    **dict.fromkeys(("large", "big", "huge"), "large"),
    "upright": "upright",
    **dict.fromkeys(("tilted", "slanted"), "tilted"),
    **dict.fromkeys(("upside-down", "inverted"), "upside-down"),
    "dark": "dark",
    **dict.fromkeys(("bright", "light"), "bright"),
    **dict.fromkeys(("plain", "unpatterned"), "plain"),
    **dict.fromkeys(("striped", "stripy", "stripes"), "striped"),
    **dict.fromkeys(("dotted", "spotted"), "dotted"),
    **dict.fromkeys(("transparent", "see-through"), "transparent"),
    "opaque": "opaque",
}
# What compares an object with the others of its kind.
RANKS: Mapping[str, str] = {
    **dict.fromkeys(("largest", "biggest", "larger", "bigger"), "largest"),
    **dict.fromkeys(("smallest", "smaller", "tiniest"), "smallest"),
    "leftmost": "leftmost",
    "rightmost": "rightmost",
    **dict.fromkeys(("topmost", "highest", "uppermost"), "topmost"),
    **dict.fromkeys(("lowest", "lowermost", "bottommost"), "lowest"),
}
# Heads that say nothing about what it is.
ANYTHING = frozenset(["object", "objects", "thing", "things", "item", "items", "something", "anything", "one", "ones"])

# How the object before is placed to the one behind, longest wordings first.
_RELATIONS: tuple[tuple[str, str], ...] = (
    *(("to the left of", "left of"), ("on the left of", "left of"), ("to the left side of", "left of")),
    *(("to the right of", "right of"), ("on the right of", "right of"), ("to the right side of", "right of")),
    *(("on top of", "on"), ("in front of", "in front of"), ("in back of", "behind"), ("next to", "next to")),
    *(("close to", "next to"), ("left of", "left of"), ("right of", "right of"), ("inside of", "inside")),
    *(("above", "above"), ("over", "above"), ("below", "below"), ("under", "below"), ("underneath", "below")),
    *(("beneath", "below"), ("behind", "behind"), ("inside", "inside"), ("beside", "next to"), ("near", "next to")),
    *(("by", "next to"), ("between", "between"), ("on", "on"), ("in", "inside"), ("with", "with")),
)
_DETERMINERS = frozenset(
    ("a", "an", "the", "this", "that", "these", "those", "some", "any", "each", "every", "all", "both", "another")
    + ("other", "its", "his", "her", "their", "my", "your", "our", "no")
)
_NUMBERS = frozenset(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "several", "many", "few"))
_JOINERS = """
    and or but of at to from into onto for as than then while when where which who whose is are was were be been being
    am has have having had do does did can could will would may might must there here it he she they them him we i you
    not very too also just only there's it's that's sits sit stands stand lies lie holds hold hangs hang walks runs
    flies eats shows show contains contain sees see find what
"""
_JOINING = frozenset(_JOINERS.split())
_PARTICIPLE = re.compile(r"\w{3,}(?:ing|ed)$")
_NO_PARTICIPLE = frozenset(("string", "building", "ceiling", "painting", "clothing", "dressing", "pudding", "hundred"))
_NO_PLURAL = re.compile(r"(?:ss|us|is|glasses|scissors|trousers|grapes|cherries|skis)$")
_MOST_PHRASES = 32


@dataclass(frozen=True, slots=True)
class Relation:
    """How the phrase's object is placed to those of other phrases. targets: their places among the sentence's phrases;
    "between" has two, every other kind one."""

    kind: str
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """A noun phrase, read. noun: what it is, "" for anything. modifiers: as attributes call them. ranks: as in `RANKS`.

    many: whether it speaks of several objects.
    """

    phrase: NounPhrase
    noun: str
    modifiers: tuple[str, ...] = ()
    ranks: tuple[str, ...] = ()
    many: bool = False
    relations: tuple[Relation, ...] = ()


@dataclass(slots=True)
class _Chunk:
    """Tokens of one phrase, and the relation that leads to it."""

    tokens: list[re.Match[str]] = field(default_factory=list)
    relation: str = ""
    joined: bool = False  # by "and" to the phrase before


def noun_phrases(sentence: str) -> tuple[NounPhrase, ...]:
    """The noun phrases of a sentence, in order; at most 32."""
    return tuple(each.phrase for each in read_sentence(sentence))


def read_sentence(sentence: str) -> tuple[GroundedPhrase, ...]:
    """The noun phrases with what is said of their objects. A sentence without one has none."""
    chunks = [chunk for chunk in _chunks(sentence) if _words(chunk)][:_MOST_PHRASES]
    relations: dict[int, list[Relation]] = {}
    for place, chunk in enumerate(chunks):
        if chunk.relation == "between":
            targets = (place, place + 1) if place + 1 < len(chunks) and chunks[place + 1].joined else (place,)
            relations.setdefault(max(place - 1, 0), []).append(Relation("between", targets))
        elif chunk.relation and place:
            relations.setdefault(place - 1, []).append(Relation(chunk.relation, (place,)))
    return tuple(_read(sentence, chunk, tuple(relations.get(place, ()))) for place, chunk in enumerate(chunks))


def _chunks(sentence: str) -> list[_Chunk]:
    tokens = list(_TOKEN.finditer(sentence))
    words = [token.group().casefold().replace("\u2019", "'") for token in tokens]
    chunks = [_Chunk()]
    place = 0
    while place < len(tokens):
        kind, length = _relation_at(words, place)
        if length:
            chunks.append(_Chunk(relation=kind))
            place += length
            continue
        word = words[place]
        if word in _JOINING or not word[0].isalnum():
            held = chunks[-1].relation if not chunks[-1].tokens else ""
            chunks.append(_Chunk(relation=held, joined=word == "and"))
        elif word in _DETERMINERS and any(w not in _DETERMINERS for w in _lower(chunks[-1])):
            chunks.append(_Chunk([tokens[place]]))
        else:
            chunks[-1].tokens.append(tokens[place])
        place += 1
    return chunks


def _relation_at(words: list[str], place: int) -> tuple[str, int]:
    for wording, kind in _RELATIONS:
        parts = wording.split()
        if words[place : place + len(parts)] == parts:
            return kind, len(parts)
    return "", 0


def _lower(chunk: _Chunk) -> list[str]:
    return [token.group().casefold() for token in chunk.tokens]


def _words(chunk: _Chunk) -> list[str]:
    """The words that say what the object is or how; none where only determiners are there."""
    return [word for word in _lower(chunk) if word not in _DETERMINERS]


def _read(sentence: str, chunk: _Chunk, relations: tuple[Relation, ...]) -> GroundedPhrase:
    tokens = list(chunk.tokens)
    # "a dog sitting on ...": what it does ends the phrase, unless it is all that there is.
    while len(tokens) > 1 and _is_participle(tokens[-1].group().casefold()) and _is_noun_before(tokens):
        tokens.pop()
    words = [token.group().casefold() for token in tokens]
    head: list[str] = []
    modifiers, ranks = [], []
    numbered = False
    for place, word in enumerate(words):
        last = place == len(words) - 1
        if word in _DETERMINERS:
            continue
        if word in _NUMBERS or word.isdigit():
            numbered = numbered or word not in ("1",)
        elif word in RANKS and not last:
            ranks.append(RANKS[word])
        elif word in MODIFIERS and not last:
            modifiers.append(MODIFIERS[word])
        else:
            head.append(word)
    start, end = tokens[0].start(), tokens[-1].end()
    noun = " ".join(head)
    anything = noun in ANYTHING
    many = numbered or _is_plural(head[-1] if head else "")
    phrase = NounPhrase(sentence[start:end], (start, end))
    return GroundedPhrase(phrase, "" if anything else noun, tuple(modifiers), tuple(ranks), many, relations)


def _is_participle(word: str) -> bool:
    return word not in _NO_PARTICIPLE and bool(_PARTICIPLE.fullmatch(word))


def _is_noun_before(tokens: list[re.Match[str]]) -> bool:
    before = tokens[-2].group().casefold()
    return before not in _DETERMINERS and before not in MODIFIERS and before not in _NUMBERS


def _is_plural(word: str) -> bool:
    return word.endswith("s") and len(word) > 3 and not _NO_PLURAL.search(word)
