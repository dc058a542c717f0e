"""The three levels of an object's name where nothing was asked for, as DetCLIPv3 has them: phrase, category, parent.

They agree: the phrase is the part of the caption that names the object, the category is its noun, and the parent is a
broader word for the category.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dynrefer.model.grounding.sentence import GroundedPhrase, read_sentence
from dynrefer.model.types import Label, RegionDescription

SURE = 0.5  # least probability of a category that is said; below it the parent is


class Levels(NamedTuple):
    """phrase, category, parent: as in the module's head; parent is None where none is known. probability: of the
    category, None where the model has none."""

    phrase: str
    category: str
    parent: str | None
    probability: float | None


def levels(description: RegionDescription, parent_of: Callable[[str], str | None]) -> Levels:
    """The levels of a region that caption and categories were asked of. parent_of: a category -> a broader word."""
    categories = description.categories or ()
    text = description.caption.text if description.caption else ""
    phrases = read_sentence(text)
    # A broader word in front stands for a name that is not sure; the names behind it are single ones.
    parents = [label for label in categories if label.level == "parent"]
    names = [label for label in categories if label.level != "parent"]
    category = _in_text(names, phrases) or (names[0] if names else None)
    if category is None:
        return Levels(text, text, None, None)
    said = parents[0].name if parents else category.name
    phrase = _phrase_of((said, category.name), phrases) or said
    parent = parents[0].name if parents else parent_of(category.name)
    return Levels(phrase, category.name, parent, category.probability)


def _in_text(names: list[Label], phrases: tuple[GroundedPhrase, ...]) -> Label | None:
    """The best category that the caption names: a caption that says something else is believed, if it names one."""
    nouns = [_plain(each.noun) for each in phrases]
    return next((label for label in names if _plain(label.name) in nouns), None)


def _phrase_of(nouns: tuple[str, ...], phrases: tuple[GroundedPhrase, ...]) -> str | None:
    """The noun phrase whose head is one of the nouns."""
    for noun in nouns:
        for each in phrases:
            if _plain(each.noun) == _plain(noun) or _plain(each.noun).endswith(f" {_plain(noun)}"):
                return each.phrase.text
    return None


def _plain(noun: str) -> str:
    return " ".join(noun.casefold().replace("-", " ").split())
