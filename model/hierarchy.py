"""The three levels of an object's name where nothing was asked for, as DetCLIPv3 has them: phrase, category, parent.

They agree: the phrase names the category, or of an object that is not sure the parent; the parent is a broader word
for the category, from the same table that the categories are from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dynrefer.model.evidence.noun_phrases import Noun, put_noun
from dynrefer.model.grounding.sentence import GroundedPhrase, read_sentence
from dynrefer.model.grounding.words import ANYTHING
from dynrefer.model.types import Label, RegionDescription

SURE = 0.5  # least probability of a category that is said; below it the parent is
CATEGORIES = 5  # so many of a region are asked for, of which one is said
_BELIEVED = 0.2  # of the best category's probability: so likely a category is said because the caption says it
_PLACEHOLDER = "~"


class Levels(NamedTuple):
    """phrase, category, parent: as in the module's head; parent is None where none is known. probability: of the
    category, None where the model has none."""

    phrase: str
    category: str
    parent: str | None
    probability: float | None

    @property
    def label(self) -> str:
        """What is said in one word: the category if it is sure, else the parent."""
        sure = self.probability is None or self.probability >= SURE
        return self.category if self.parent is None or sure else self.parent


def levels(description: RegionDescription, parents_of: Callable[[str], Sequence[str]]) -> Levels:
    """The levels of a region that caption and categories were asked of.

    parents_of: a category -> the broader words for it, nearest first; none where none is known.
    """
    categories = description.categories or ()
    text = description.caption.text if description.caption else ""
    spoken = _spoken_of(read_sentence(text))
    # A broader word in front stands for a name that is not sure; the names behind it are single ones.
    broader = next((label.name for label in categories if label.level == "parent"), None)
    names = [label for label in categories if label.level != "parent"]
    if broader is not None and names:
        below = [label for label in names if broader in parents_of(label.name)]
        names, broader = (below, broader) if below else (names, None)
    if not names:
        said = spoken.phrase.text if spoken else text
        return Levels(said, broader or said, None, None)
    category = _in_caption(names, spoken) or names[0]
    parent = broader or next(iter(parents_of(category.name)), None)
    phrase = _phrase(category.name, broader, spoken)
    return Levels(phrase, category.name, parent, category.probability)


def _spoken_of(phrases: Sequence[GroundedPhrase]) -> GroundedPhrase | None:
    """What a caption is about: its first phrase that does not say where something else is ("on a floor a dog")."""
    places = {target for each in phrases for relation in each.relations for target in relation.targets}
    return next((each for place, each in enumerate(phrases) if place not in places), None)


def _in_caption(names: Sequence[Label], spoken: GroundedPhrase | None) -> Label | None:
    """The best category that the caption names, if it is nearly as likely as the best."""
    likely = (label for label in names if label.probability >= _BELIEVED * names[0].probability)
    return next((label for label in likely if spoken is not None and _names(spoken, label.name)), None)


def _phrase(category: str, broader: str | None, spoken: GroundedPhrase | None) -> str:
    """The caption's phrase, with the category put in where it names something else."""
    if spoken is None:
        return broader or category
    text = spoken.phrase.text
    if _names(spoken, category) or (broader is not None and _names(spoken, broader)):
        return text
    said = broader or category
    noun = spoken.noun or text.rpartition(" ")[2].lower()
    if not text.lower().endswith(noun) or (not spoken.noun and noun not in ANYTHING):
        return said
    return put_noun(text[: -len(noun)] + _PLACEHOLDER, Noun(said), _PLACEHOLDER)


def _names(spoken: GroundedPhrase, name: str) -> bool:
    """Whether a phrase is headed by the name, or says that its object holds it ("a bowl of soup")."""
    wanted = _plain(name)
    heads = (_plain(spoken.noun), _plain(spoken.contents), _plain(spoken.phrase.text))
    return any(head == wanted or head.endswith(f" {wanted}") for head in heads)


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("-", " ").split())
