"""The scores of the names that a request asks for, of what finder and describer say of the candidates.

A name has the score of the best of its words: its own and its synonyms. Where the finder knows none of them, the
describer's probability x objectness (their geometric mean) takes the place of the finder's score, for the candidates
that it looked at. A candidate that a word fits better which is not meant is none of the name's.
Shapes: N = candidates, T = texts, L = candidates that the describer looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.finding import AskedName, Candidates, FoundRegion
from dynrefer.model.suppression import overlaps
from dynrefer.model.types import RegionDescription

Floats = NDArray[np.float32]

_NOT_MEANT = 0.5  # boxes that overlap by more are one object, for a word that is not meant
_PART = float(np.sqrt(2.0))
_SAME_OBJECT = 0.65  # boxes of different names that overlap by more are one object, and the better name has it


@dataclass(frozen=True)
class Looks:
    """What the describer said. places: (L,) of the candidates, in the order of the descriptions."""

    places: NDArray[np.int64]
    descriptions: Sequence[RegionDescription]

    def probabilities(self, texts: Iterable[str]) -> Floats:
        """(L,) of the word that fits best; 0 where none of them was asked."""
        listed = tuple(texts)
        best = [max((said.get(text, 0.0) for text in listed), default=0.0) for said in self._said]
        return np.clip(np.nan_to_num(np.array(best, np.float32), nan=0.0), 0.0, 1.0)

    @cached_property
    def _said(self) -> list[Mapping[str, float]]:
        return [{label.name: label.probability for label in each.categories or ()} for each in self.descriptions]


def words_to_look(names: Sequence[AskedName], found: Candidates) -> tuple[str, ...]:
    """The words that the describer is asked about, so that each name has a score; each once.

    All words of a name, where the finder does not know the name, or not what is excluded from it: so that the two are
    compared by the same judge.
    """
    nobody = {word.name for word in found.unknown}
    words = (text for name in names if _untold(name, found, nobody) for text in _all_texts(name) if text not in nobody)
    return tuple(dict.fromkeys(words))


def name_scores(name: AskedName, found: Candidates, looks: Looks) -> Floats:
    """The scores of a name, (N,); 0 where nothing speaks for it. They do not depend on other names."""
    own = (name.name, *name.synonyms)
    scores = _best(found, own)
    told = np.nan_to_num(scores, nan=0.0)
    if name.excluded:
        told[_excluded(name, found) > told] = 0.0
    if len(looks.places) and _untold(name, found, {word.name for word in found.unknown}):
        places, said = looks.places, looks.probabilities(own)
        fits = np.sqrt(said * found.objectness[places])
        fits = np.where(np.isnan(scores[places]), fits, told[places])
        told[places] = np.where(looks.probabilities(name.excluded) > said, 0.0, fits)
    return told


def _excluded(name: AskedName, found: Candidates) -> Floats:
    """(N,) from which score on a candidate is the name's and not that of a word which is not meant.

    Such a word speaks for its own box and those that overlap it, because some finders find boxes for each word apart.
    Of a word that is part of the name ("animal", not "pig") more has to be left than the word takes: as scores are
    geometric means, the square root of half is what it has to stay below.
    """
    bounds = np.zeros(len(found.boxes), dtype=np.float32)
    shared = overlaps(found.boxes, found.boxes) > _NOT_MEANT
    np.fill_diagonal(shared, val=True)
    for word in name.excluded:
        other = np.nan_to_num(_best(found, (word,)), nan=0.0)
        near = np.where(shared, other[None], 0.0).max(axis=1, initial=0.0)
        bounds = np.maximum(bounds, near * (_PART if _kin(name, AskedName(word), found) else 1.0))
    return np.asarray(bounds, dtype=np.float32)


def one_name_per_object(
    regions: Iterable[FoundRegion], names: Sequence[AskedName], found: Candidates
) -> list[FoundRegion]:
    """By descending score; an object that a better name has too is left to that name.

    Names of which one names what the other does share their objects: "dog" and "animal". The order of the names does
    not matter.
    """
    asked = {name.name: name for name in names}
    rivals: dict[tuple[str, str], bool] = {}
    near = overlaps(found.boxes, found.boxes) > _SAME_OBJECT
    np.fill_diagonal(near, val=True)
    kept: list[FoundRegion] = []
    takers: dict[int, list[str]] = {}
    for region in sorted(regions, key=lambda each: (-each.score, each.label, each.box)):
        others = {label for place in np.flatnonzero(near[region.candidate]).tolist() for label in takers.get(place, ())}
        for other in others - {region.label}:
            if (other, region.label) not in rivals:
                rivals[other, region.label] = not _kin(asked[other], asked[region.label], found)
        if not any(rivals[other, region.label] for other in others - {region.label}):
            kept.append(region)
            takers.setdefault(region.candidate, []).append(region.label)
    return kept


def _kin(name: AskedName, other: AskedName, found: Candidates) -> bool:
    """Whether one of two names names what the other does."""
    if found.kin is None:
        return False
    rows, columns = ([found.texts.index(t) for t in (each.name, *each.synonyms)] for each in (name, other))
    return bool(found.kin[np.ix_(rows, columns)].any())


def _untold(name: AskedName, found: Candidates, nobody: set[str]) -> bool:
    """Whether the finder leaves a name, or what is excluded from it, to the describer."""
    return any(
        not set(texts) <= nobody and bool(np.isnan(_best(found, texts)).any())
        for texts in ((name.name, *name.synonyms), name.excluded)
        if texts
    )


def _all_texts(name: AskedName) -> tuple[str, ...]:
    return (name.name, *name.synonyms, *name.excluded)


def _best(found: Candidates, texts: Sequence[str]) -> Floats:
    """(N,) the best score of the texts; NaN where none of them is known."""
    columns = found.scores[:, [found.texts.index(text) for text in texts]]
    known = ~np.isnan(columns)
    best = np.where(known, columns, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(known.any(axis=1), best, np.nan).astype(np.float32)
