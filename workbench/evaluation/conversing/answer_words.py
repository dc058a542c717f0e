"""What an answer says, read from its words alone: names, colours, numbers, places, relations, yes and no."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dynrefer.workbench.evaluation.metrics.caption_claims import words_of
from dynrefer.workbench.scenes.questions.names import NUMBERS, spoken_name
from dynrefer.workbench.scenes.world import World

_SHORT_FORMS = {"isn't": "is not", "aren't": "are not", "don't": "do not", "doesn't": "does not", "can't": "cannot"}
_PLACES = {
    **{"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom", "left": "left", "right": "right"},
    **{word: "middle" for word in ("middle", "center", "centre")},
}
_RELATIONS = (
    ("in front of", "in front of"),
    ("behind", "behind"),
    ("left", "left of"),
    ("right", "right of"),
    ("above", "above"),
    ("over", "above"),
    ("on top of", "above"),
    ("below", "below"),
    ("under", "below"),
    ("underneath", "below"),
    ("beneath", "below"),
)
_SIZES = {"small": "small", "little": "small", "medium": "medium", "medium-sized": "medium", "large": "large"}
_SIZES |= {"big": "large"}
_NO_NAMES = {"present"}  # synonyms that answers use as other words
_NOTHING = {"none", "nothing"}  # beside zero
_DO_NOT_KNOW = ("cannot tell", "can not tell", "do not know", "not sure", "cannot say", "unclear", "ambiguous")
_ABSENT = ("no such", "is no", "are no", "is none", "not there", "is not in", "do not see", "cannot see", "cannot find")
_SETTINGS = {
    "grass": ("grass", "lawn", "meadow"),
    "sand": ("sand", "beach", "desert"),
    "snow": ("snow",),
    "water": ("water", "sea"),
    "night": ("night",),
    "brick wall": ("brick wall", "wall", "bricks"),
    "wooden floor": ("wooden floor", "floor", "wood"),
    "city": ("city", "town", "street"),
    "sky": ("sky",),
    "plain background": ("plain background", "plain"),
}


class AnswerWords:
    """Reads answers about the objects of a world."""

    def __init__(self, world: World) -> None:
        self._names: Mapping[tuple[str, ...], str] = _phrases(world)
        self._longest = max(map(len, self._names))
        self._colours = {
            synonym: attribute.value
            for attribute in world.attributes
            if attribute.type == "color"
            for synonym in attribute.synonyms
        } | {colour: colour for colour in world.colours}

    def names(self, text: str) -> list[str]:
        """The categories that are named, in their order; the longest name where several begin at a word."""
        return [name for name, _ in self._read(text) if name is not None]

    def colours(self, text: str) -> list[str]:
        """The colours that are said, in their order; not those that are words of a name."""
        return [self._colours[word] for name, word in self._read(text) if name is None and word in self._colours]

    def without_names(self, text: str) -> str:
        """The words that belong to no name."""
        return " ".join(word for name, word in self._read(text) if name is None)

    def _read(self, text: str) -> list[tuple[str | None, str]]:
        """(category, "") for each name, (None, word) for each other word."""
        words, found, place = plain(text).split(), [], 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                name = self._names.get(tuple(words[place : place + length]))
                if name is not None:
                    found.append((name, ""))
                    place += length
                    break
            else:
                found.append((None, words[place]))
                place += 1
        return found


def plain(text: str) -> str:
    """Lower case, without marks and articles, short forms written out; "grey" as "gray"."""
    words = " ".join(words_of(text.replace("\u2019", "'")))
    for short, whole in _SHORT_FORMS.items():
        words = re.sub(rf"\b{short}\b", whole, words)
    return " ".join(word for word in words.split() if word not in ("a", "an", "the"))


def says_one_of(text: str, phrases: tuple[str, ...]) -> bool:
    """Whether one of the phrases stands in the text as whole words."""
    return any(f" {phrase} " in f" {plain(text)} " for phrase in phrases)


def does_not_know(text: str) -> bool:
    """Whether it says that it cannot tell."""
    return says_one_of(text, _DO_NOT_KNOW)


def says_absent(text: str) -> bool:
    """Whether it says that what was asked about is not there."""
    return says_one_of(text, _ABSENT)


def numbers(text: str) -> set[int]:
    """The numbers that are said, as words or digits; "none" is 0."""
    words = {word: value for value, word in enumerate(NUMBERS)} | dict.fromkeys(_NOTHING, 0)
    said = plain(text).split()
    found = {words[word] for word in said if word in words} | {int(word) for word in said if word.isdigit()}
    return found | ({0} if says_one_of(text, ("are no", "is no")) else set())


def places(text: str) -> set[str]:
    """The parts of an image that are said: of top, bottom, left, right and middle."""
    return {_PLACES[word] for word in plain(text).replace("-", " ").split() if word in _PLACES}


def relations(text: str) -> set[str]:
    """The relations that are said."""
    return {relation for words, relation in _RELATIONS if says_one_of(text, (words,))}


def sizes(text: str) -> set[str]:
    """The sizes that are said."""
    return {_SIZES[word] for word in plain(text).split() if word in _SIZES}


def settings(text: str) -> set[str]:
    """The backgrounds that are said."""
    return {name for name, words in _SETTINGS.items() if says_one_of(text, words)}


def yes_or_no(text: str) -> str | None:
    """What a yes-or-no question is answered with, by these words or by what else it says; None where it says neither,
    or both."""
    words = plain(text).split()
    if "yes" in words:
        return None if "no" in words else "yes"
    if words[:1] == ["no"] or says_absent(text) or "not" in words:
        return "no"
    return "yes" if says_one_of(text, ("there is", "there are", "it is", "they are", "both are")) else None


def _phrases(world: World) -> dict[tuple[str, ...], str]:
    """Words -> category, singular and plural; a name of the world goes before another's synonym."""
    found: dict[tuple[str, ...], str] = {}
    for own in (False, True):
        for category in world.categories:
            words = (category.name, spoken_name(category)) if own else set(category.synonyms) - _NO_NAMES
            for phrase in words:
                *first, last = plain(phrase).split()
                for ending in (last, f"{last}s", f"{last}es"):
                    found[(*first, ending)] = category.name
    return found
