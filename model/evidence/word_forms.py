"""The forms under which a request's word may stand in a list of nouns: "The Red_Pandas" -> "red pandas", "red panda".

The rules for plurals are those of WordNet's morphological processor (morphy(7WN)) for nouns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

# Ending of a plural -> that of its singular.
_ENDINGS = (
    *(("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    ("ves", "f"),
    ("s", ""),
)
_DETERMINERS = re.compile(r"^(?:an?|the|some|one|this|that|his|her|its|my|your|their) (?=\S)")
# A measure says how much of it there is, not what it is.
_MEASURE = re.compile(r"^(?:pair|piece|slice|bunch|group|herd|flock|pile|couple)s? of (?=\S)")
_MOST_MODIFIERS = 3
LONGEST = 128  # characters that are looked at: no noun of the lists is longer


def plain(word: str) -> str:
    """Lower case, one space between words, no underscores, no article and no measure in front."""
    text = unicodedata.normalize("NFKC", word[: 2 * LONGEST]).casefold().replace("_", " ").replace("\u2019", "'")
    text = _DETERMINERS.sub("", " ".join(text.split()), count=1)
    return _MEASURE.sub("", text, count=1)[:LONGEST]


def forms(text: str, irregular: Mapping[str, str]) -> Iterator[str]:
    """A plain text and its other spellings, then the singulars of each; without repetition.

    irregular: plural -> singular of what no rule gives.
    """
    seen: set[str] = set()
    for singular in (False, True):
        for spelled in (text, text.replace("-", " "), text.replace(" ", "-"), re.sub("[ -]", "", text)):
            for form in _singulars(spelled, irregular) if singular else (spelled,):
                if form not in seen:
                    seen.add(form)
                    yield form


def heads(text: str) -> Iterator[str]:
    """What is left of a plain text without what describes it: "big red apple on a plate" -> "red apple", "apple"."""
    text = re.split(r" (?:of|in|on|at|with|without|for|from|by|under|over|near) ", text, maxsplit=1)[0]
    words = text.split()
    for first in range(0 if len(words) <= _MOST_MODIFIERS else len(words) - _MOST_MODIFIERS, len(words)):
        yield " ".join(words[first:])


def _singulars(text: str, irregular: Mapping[str, str]) -> Iterator[str]:
    before, space, last = text.rpartition(" ")
    if text in irregular:
        yield irregular[text]
    if space and last in irregular:
        yield f"{before} {irregular[last]}"
    for ending, singular in _ENDINGS:
        # "glass" and "s" are no plurals.
        if last.endswith(ending) and len(last) > len(ending) + 1 and not last.endswith("ss"):
            yield f"{before}{space}{last.removesuffix(ending)}{singular}"
