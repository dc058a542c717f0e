"""Questions about what nobody can have seen: a noun is another word, which means nothing or nothing that is known here.

"How many glorps are there?" has no answer; a converser that has never been asked so counts whatever there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dynrefer.model.conversation import CANNOT_TELL
from dynrefer.model.networks.converse.embedded.lexicon import Lexicon
from dynrefer.model.networks.converse.embedded.word_vectors import WordVectors
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.training.converse.asked import AskedQuestion

SHARE = 0.06  # of the questions of one of these kinds that say a noun
KINDS = frozenset(
    (Kind.COLOUR, Kind.SIZE, Kind.POSITION, Kind.COUNT, Kind.EXISTENCE, Kind.WHERE, Kind.LISTING_SOME, Kind.RELATION)
    + (Kind.RELATION_YES_NO, Kind.BESIDE, Kind.LARGER, Kind.LARGER_YES_NO, Kind.SAME_COLOUR, Kind.SAME_GROUP)
)
_ENGLISH = 0.5  # how often it is a word of English that the lexicon has not
_STARTS = (
    "b",
    "bl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gl",
    "k",
    "m",
    "n",
    "pl",
    "qu",
    "r",
    "s",
    "sn",
    "t",
    "tr",
    "v",
    "w",
    "z",
)
_MIDDLES = ("a", "e", "i", "o", "u", "oo", "ee", "or", "ar")
_ENDS = ("b", "ck", "d", "ft", "g", "lp", "m", "nk", "p", "rp", "sk", "t", "x", "zz")


def with_strange_nouns(
    questions: Sequence[AskedQuestion], lexicon: Lexicon, vectors: WordVectors, seed: int
) -> list[AskedQuestion]:
    """The same questions, a share of them with a strange noun in their last message: the answer is that one cannot
    tell. seed: of which ones."""
    rng = np.random.default_rng((23, seed))
    english = unlisted(lexicon, vectors)
    found = []
    for each in questions:
        if each.kind in KINDS and not each.answers and rng.random() < SHARE:
            word = english[int(rng.integers(len(english)))] if rng.random() < _ENGLISH else nonsense(rng)
            role, text = each.messages[-1]
            said = with_noun(text, lexicon, word, rng)
            if said is not None:
                messages = (*each.messages[:-1], (role, said))
                found.append(replace(each, messages=messages, answer=CANNOT_TELL, spans=()))
                continue
        found.append(each)
    return found


def unlisted(lexicon: Lexicon, vectors: WordVectors) -> list[str]:
    """Words of English that the lexicon has not, the most frequent of them left out."""
    known = set(lexicon.words) | {part for noun in lexicon.nouns for part in noun.split()}
    return [word for word in vectors.words[1000:] if len(word) > 3 and word not in known]


def nonsense(rng: np.random.Generator) -> str:
    """A word that one can say and that means nothing, but by a rare chance."""
    parts = [_STARTS, _MIDDLES, _ENDS] if rng.random() < 0.6 else [_STARTS, _MIDDLES, _STARTS, _MIDDLES, _ENDS]
    return "".join(part[int(rng.integers(len(part)))] for part in parts)


def with_noun(text: str, lexicon: Lexicon, word: str, rng: np.random.Generator) -> str | None:
    """The text with this word in the place of one of its nouns, in the plural where that is; None where it says
    none."""
    nouns = [piece.noun for piece in lexicon.read(text) if piece.noun is not None]
    if not nouns:
        return None
    noun = nouns[int(rng.integers(len(nouns)))]
    if noun.plural and not word.endswith("s"):
        word += "s"
    return re.sub(rf"(?<!\w){re.escape(noun.text)}(?!\w)", word, text, count=1, flags=re.IGNORECASE)
