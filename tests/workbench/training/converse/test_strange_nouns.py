"""A share of the questions that say a noun say one that is none, and are answered with "I cannot tell."."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.conversation import CANNOT_TELL
from dynrefer.model.networks.converse.embedded.lexicon import UNKNOWN
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.training.converse.asked import AskedQuestion
from dynrefer.workbench.training.converse.samples import Samples
from dynrefer.workbench.training.converse.strange_nouns import SHARE, StrangeWords, with_strange_nouns


def _asked(text: str, kind: str = "count", *, answers: tuple[str, ...] = ()) -> AskedQuestion:
    return AskedQuestion(1, kind, (("user", text),), (("a", 0),), answers, "There are two.", ((0, 5, 0),))


def test_a_share_of_questions_says_a_strange_noun(samples: Samples) -> None:
    asked = [_asked("How many dogs are there?")] * 1000
    found = with_strange_nouns(asked, samples.lexicon, samples.vectors, 0)
    strange = [each for each in found if each != asked[0]]
    assert 0.5 * SHARE < len(strange) / len(asked) < 1.5 * SHARE
    for each in strange:
        before, _, after = each.messages[0][1].partition("How many ")
        word = after.removesuffix(" are there?")
        assert not before and word.endswith("s") and word.isalpha() and word != "dogs"
        assert each.answer == CANNOT_TELL and not each.spans
    assert len({each.messages for each in strange}) > 0.9 * len(strange)
    assert found == with_strange_nouns(asked, samples.lexicon, samples.vectors, 0)


def test_others_stay_as_they_are(samples: Samples) -> None:
    asked = [
        *[_asked("What is the largest object?", "extreme")] * 200,
        *[_asked("What colour is <region:a>?", "colour")] * 200,
        *[_asked("Are there dogs?", "existence", answers=("yes", "no"))] * 200,
        *[_asked("Aim the camera at <region:a>.", "where")] * 200,
    ]
    assert with_strange_nouns(asked, samples.lexicon, samples.vectors, 0) == asked


def test_strange_words_are_read_as_no_noun_and_some_are_never_trained_on(samples: Samples) -> None:
    rng = np.random.default_rng(0)
    drawn = {}
    for held_out in (False, True):
        words = StrangeWords(samples.lexicon, samples.vectors, held_out=held_out)
        drawn[held_out] = [draw(rng) for draw in (words.english, words.nonsense) for _ in range(200)]
        for word in drawn[held_out]:
            (piece,) = samples.lexicon.read(word)
            assert piece.word == UNKNOWN and piece.noun is None, word
        assert all(word in samples.vectors.rows for word in drawn[held_out][:200])
        assert not any(word in samples.vectors.rows for word in drawn[held_out][200:])
        assert not {"mammal", "sedan", "taxi", "dogs"} & set(words._english)
    assert not set(drawn[True]) & set(drawn[False])


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("Where is the dog?", Kind.WHERE, "Where is the glorp?"),
        ("Aim the camera at the dog.", Kind.WHERE, "Aim the camera at the glorp."),
        ("Dogs: how many?", Kind.COUNT, "glorps: how many?"),
        ("Where is <region:a>?", Kind.WHERE, None),
    ],
)
def test_a_noun_of_what_is_asked_is_replaced(samples: Samples, text: str, kind: Kind, found: str | None) -> None:
    words = StrangeWords(samples.lexicon, samples.vectors, held_out=False)
    assert words.instead_of_a_noun(text, kind, "glorp", np.random.default_rng(0)) == found
