"""What a caption claims, by its words alone: names as whole words, colours, and every other content word.

Words are compared in lower case; a noun and its plural are the same word ("two bees" names a bee, "scissors" is its own
plural). No tagger: the names and the colours are given, and what is neither, nor one of a few function words, counts as
a claim of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from dynrefer.workbench.data.photographs import COLOURS

_SPELLINGS = {"grey": "gray"}
# Words that claim nothing of their own. Prepositions of place are left out: "behind" is a claim.
_FUNCTION_WORDS = frozenset(
    (
        "a",
        "an",
        "the",
        "of",
        "and",
        "or",
        "with",
        "in",
        "on",
        "at",
        "to",
        "by",
        "is",
        "are",
        "it",
        "its",
        "this",
        "that",
    )
    + ("pair", "some")
)
_IRREGULAR = {
    **{"person": "people", "child": "children", "mouse": "mice", "goose": "geese", "ox": "oxen"},
    **{"foot": "feet", "tooth": "teeth", "knife": "knives", "leaf": "leaves", "wolf": "wolves", "calf": "calves"},
    **{"loaf": "loaves", "shelf": "shelves", "scarf": "scarves", "half": "halves"},
}
_WORD = re.compile(r"[^\W_][\w'-]*")

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The words of a text in lower case, "grey" as "gray"; a hyphen or an apostrophe does not end a word."""
    return tuple(_SPELLINGS.get(word, word) for word in _WORD.findall(text.lower()))


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same but for case and a plural of the last word."""
    first, second = words_of(one), words_of(other)
    return bool(first) and len(first) == len(second) and _is_at(first, second, 0)


def any_same(name: str, names: Iterable[str]) -> bool:
    """Whether a name is one of others, by `same_name`."""
    return any(same_name(name, each) for each in names)


def named_in(text: str, names: Iterable[str]) -> bool:
    """Whether one of the names occurs in the text as whole words, singular or plural."""
    words = words_of(text)
    return any(_places(words, words_of(name)) for name in names)


def first_name(text: str, names: Collection[str]) -> str | None:
    """The name that occurs first in the text, the longest of those that begin there; None if none occurs."""
    words = words_of(text)
    found = [(place, -len(words_of(name)), name) for name in names for place in _places(words, words_of(name))]
    return min(found)[2] if found else None


def colours_in(text: str, names: Iterable[str] = ()) -> Words:
    """The colour words of a text, each once; not those of a name, as in "a red panda", or the fruit "an orange"."""
    return tuple(dict.fromkeys(word for word in _without(text, names) if word in COLOURS))


def other_claims(text: str, names: Iterable[str]) -> Words:
    """The words of a text that are neither part of one of the names, nor colours, nor function words; in order."""
    return tuple(word for word in _without(text, names) if word not in COLOURS and word not in _FUNCTION_WORDS)


def _without(text: str, names: Iterable[str]) -> list[str]:
    """The words of the text that belong to no occurrence of a name."""
    words = words_of(text)
    named = {
        place + offset
        for wanted in map(words_of, names)
        for place in _places(words, wanted)
        for offset in range(len(wanted))
    }
    return [word for place, word in enumerate(words) if place not in named]


def _places(words: Sequence[str], wanted: Words) -> list[int]:
    """Where `wanted` begins in `words`."""
    if not wanted:
        return []
    return [place for place in range(len(words) - len(wanted) + 1) if _is_at(words, wanted, place)]


def _is_at(words: Sequence[str], wanted: Words, place: int) -> bool:
    last = place + len(wanted) - 1
    return tuple(words[place:last]) == wanted[:-1] and _same_noun(words[last], wanted[-1])


def _same_noun(one: str, other: str) -> bool:
    return one == other or one in _plurals(other) or other in _plurals(one)


def _plurals(noun: str) -> tuple[str, ...]:
    """What the plural of a noun may be; the rules are loose, since only existing names are compared."""
    found = [f"{noun}s", f"{noun}es"]
    if noun in _IRREGULAR:
        found.append(_IRREGULAR[noun])
    if noun.endswith("man"):
        found.append(noun[:-3] + "men")
    if noun.endswith("y"):
        found.append(noun[:-1] + "ies")
    return tuple(found)
