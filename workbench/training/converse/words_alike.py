"""Which words may stand for a word of a training question: those that plain text uses like it.

Most such questions ask for the same ("state the shade of it"), some do not quite: the network learns to read words that
it has never been told by what they are used like, and not to mind what it does not know. What decides about the answer,
and the commonest words, of which a sentence is built, stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.networks.converse.embedded.lexicon import Floats, Lexicon
from dynrefer.model.networks.converse.embedded.word_vectors import WordVectors

_COMMONEST = 200  # words of the language of which none is replaced: "what", "not", "of"
_ALIKE, _MOST = 0.6, 8  # least cosine of a word's likes, and how many at most
_DECIDES = """above below under over beneath atop upper lower left right top bottom centre center middle inside outside
front back rear beside between near nearer nearest closest far behind larger bigger smaller largest biggest smallest
leftmost rightmost topmost lowest highest higher short long same different identical equal both neither none nothing yes
no never without true false correct incorrect rightly wrong first second former latter number visible colour color zero
one two three four five six seven eight nine ten"""


class WordsAlike:
    """words: those with a vector that the lexicon has not. rows: of each of the lexicon's words, the places among
    `words` of those that may stand for it."""

    def __init__(self, lexicon: Lexicon, vectors: WordVectors) -> None:
        decides = set(_DECIDES.split())
        known = set(lexicon.words) | {part for noun in lexicon.nouns for part in noun.split()}
        self.words = tuple(word for word in vectors.words if word not in known and word not in decides)
        kept = decides | set(vectors.words[:_COMMONEST]) | set(lexicon.properties)
        table, own = _single(vectors.of(self.words)), _single(vectors.of(lexicon.words))
        found: list[NDArray[np.int64]] = []
        for word, vector in zip(lexicon.words, own, strict=True):
            alike = np.zeros(len(table)) if word in kept else table @ vector
            nearest = np.argsort(-alike, kind="stable")[:_MOST]
            found.append(nearest[alike[nearest] >= _ALIKE])
        self.rows = tuple(found)


def _single(vectors: Floats) -> Floats:
    """Made of length 1; what is 0 stays so."""
    found: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    return found
