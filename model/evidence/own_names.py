"""Words of a request that are names of the model's own; all others are unknown. Until words are placed in a graph."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.model.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class _Placed:
    name: str
    via: str
    nearest: tuple[str, ...] = ()


class OwnNames:
    """See `asked_words.Placement`."""

    def __init__(self, vocabulary: Vocabulary, names: EvidenceNames) -> None:
        self._categories = {name: index for index, name in enumerate(vocabulary.categories)}
        self._names = {entry.name: index for index, entry in enumerate(names.names)}

    def place(self, words: Sequence[str]) -> list[_Placed]:
        known = [*self._categories, *self._names]
        return [
            _Placed(word, "own")
            if word.lower() in self._categories or word.lower() in self._names
            else _Placed(word, "none", tuple(difflib.get_close_matches(word.lower(), known)))
            for word in words
        ]

    def probabilities(self, placed: Sequence[_Placed], identity: Identity) -> NDArray[np.float32]:
        places, values = self._categories, identity.categories
        if identity.photograph:
            places, values = self._names, identity.names
        found = []
        for each in placed:
            place = places.get(each.name.lower())
            found.append(np.nan if each.via == "none" else 0.0 if place is None else float(values[place]))
        return np.array(found, np.float32)
