"""Questions about what nobody can have seen: a noun is another word, which means nothing or nothing that is known here.

"How many glorps are there?" has no answer; a converser that has never been asked so counts whatever there is.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dynrefer.model.conversation import CANNOT_TELL
from dynrefer.model.networks.converse.embedded.lexicon import UNKNOWN, Lexicon
from dynrefer.model.networks.converse.embedded.word_vectors import WordVectors
from dynrefer.workbench.scenes.questions.forms import skeleton
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.scenes.questions.wordings import skeletons
from dynrefer.workbench.training.converse.asked import AskedQuestion

SHARE = 0.06  # of the questions of one of these kinds without given answers, as far as they say a noun of what is asked
KINDS = frozenset(
    (Kind.COLOUR, Kind.SIZE, Kind.POSITION, Kind.COUNT, Kind.EXISTENCE, Kind.WHERE, Kind.LISTING_SOME, Kind.RELATION)
    + (Kind.RELATION_YES_NO, Kind.BESIDE, Kind.LARGER, Kind.LARGER_YES_NO, Kind.SAME_COLOUR, Kind.SAME_GROUP)
)
_ENGLISH = 0.5  # how often it is a word of English
_COMMONEST = 1000  # words of English that are no strange ones
_FAR = 0.35  # cosines below it: used like no noun of the drawn world
_HELD_OUT = 5  # every fifth word is kept from training
_SLOT = re.compile(r"\{\w+\}")
_STARTS = "b bl d dr f fl g gl k m n pl qu r s sn t tr v w z"
_MIDDLES = "a e i o u oo ee or ar"
_ENDS = "b ck d ft g lp m nk p rp sk t x zz"


def with_strange_nouns(
    questions: Sequence[AskedQuestion], lexicon: Lexicon, vectors: WordVectors, seed: int
) -> list[AskedQuestion]:
    """The same questions, a share of them with a strange noun in their last message: the answer is that one cannot
    tell. seed: of which ones."""
    rng = np.random.default_rng((23, seed))
    words = StrangeWords(lexicon, vectors, held_out=False)
    found = []
    for each in questions:
        if each.kind in KINDS and not each.answers and rng.random() < SHARE:
            word = words.english(rng) if rng.random() < _ENGLISH else words.nonsense(rng)
            role, text = each.messages[-1]
            said = words.instead_of_a_noun(text, Kind(each.kind), word, rng)
            if said is not None:
                messages = (*each.messages[:-1], (role, said))
                found.append(replace(each, messages=messages, answer=CANNOT_TELL, spans=()))
                continue
        found.append(each)
    return found


class StrangeWords:
    """Words to stand for nouns. held_out: those that training never draws, else those that it does."""

    def __init__(self, lexicon: Lexicon, vectors: WordVectors, *, held_out: bool) -> None:
        self._lexicon, self._vectors, self._held_out = lexicon, vectors, held_out
        self._of_forms: dict[Kind, frozenset[str]] = {}
        nouns = [vectors.rows[text] for text in lexicon.nouns if text in vectors.rows]
        table = vectors.of(vectors.words)
        near = (table @ table[nouns].T).max(axis=1)
        self._english = [
            word
            for row, word in enumerate(vectors.words)
            if row >= _COMMONEST and len(word) > 3 and near[row] < _FAR and self._is_drawn(word) and self._is_new(word)
        ]

    def english(self, rng: np.random.Generator) -> str:
        """A word of English that is used like no noun of the drawn world, and is no very common one."""
        return self._english[int(rng.integers(len(self._english)))]

    def nonsense(self, rng: np.random.Generator) -> str:
        """A word that one can say, and that neither the lexicon nor the list of vectors has."""
        while True:
            single = rng.random() < 0.6
            parts = (_STARTS, _MIDDLES, _ENDS) if single else (_STARTS, _MIDDLES, _STARTS, _MIDDLES, _ENDS)
            word = "".join(str(rng.choice(part.split())) for part in parts)
            if word not in self._vectors.rows and self._is_drawn(word) and self._is_new(word):
                return word

    def instead_of_a_noun(self, text: str, kind: Kind, word: str, rng: np.random.Generator) -> str | None:
        """The text with this word in the place of one of its nouns, in the plural where that is; None where it says
        none. Not of those that forms of its kind say themselves: "Aim the camera at the dog" asks for no camera."""
        own = self._nouns_of_forms(kind)
        nouns = [each.noun for each in self._lexicon.read(text) if each.noun is not None and each.noun.text not in own]
        if not nouns:
            return None
        noun = nouns[int(rng.integers(len(nouns)))]
        if noun.plural and not word.endswith("s"):
            word += "s"
        return re.sub(rf"(?<!\w){re.escape(noun.text)}(?!\w)", word, text, count=1, flags=re.IGNORECASE)

    def _nouns_of_forms(self, kind: Kind) -> frozenset[str]:
        if kind not in self._of_forms:
            texts = {text for line in skeletons()[kind] for part in skeleton(line).parts for text, _ in part}
            pieces = (piece for text in texts for piece in self._lexicon.read(_SLOT.sub(" ", text)))
            self._of_forms[kind] = frozenset(piece.noun.text for piece in pieces if piece.noun is not None)
        return self._of_forms[kind]

    def _is_drawn(self, word: str) -> bool:
        return (zlib.crc32(word.encode()) % _HELD_OUT == 0) == self._held_out

    def _is_new(self, word: str) -> bool:
        (piece,) = self._lexicon.read(word)
        return piece.word == UNKNOWN
