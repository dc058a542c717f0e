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
    known = set(lexicon.words) | {part for noun in lexicon.nouns for part in noun.split()}
    english = [word for word in vectors.words[1000:] if len(word) > 3 and word not in known]
    return [_strange(each, lexicon, english, rng) for each in questions]


def _strange(
    question: AskedQuestion, lexicon: Lexicon, english: Sequence[str], rng: np.random.Generator
) -> AskedQuestion:
    if question.kind not in KINDS or question.answers or rng.random() >= SHARE:
        return question
    role, text = question.messages[-1]
    nouns = [piece.noun for piece in lexicon.read(text) if piece.noun is not None]
    if not nouns:
        return question
    noun = nouns[int(rng.integers(len(nouns)))]
    word = english[int(rng.integers(len(english)))] if rng.random() < _ENGLISH else _nonsense(rng)
    if noun.plural and not word.endswith("s"):
        word += "s"
    said = re.sub(rf"(?<!\w){re.escape(noun.text)}(?!\w)", word, text, count=1, flags=re.IGNORECASE)
    return replace(question, messages=(*question.messages[:-1], (role, said)), answer=CANNOT_TELL, spans=())


def _nonsense(rng: np.random.Generator) -> str:
    parts = [_STARTS, _MIDDLES, _ENDS] if rng.random() < 0.6 else [_STARTS, _MIDDLES, _STARTS, _MIDDLES, _ENDS]
    return "".join(part[int(rng.integers(len(part)))] for part in parts)
