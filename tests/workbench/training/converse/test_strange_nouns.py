"""A share of the questions that say a noun say one that is none, and are answered with "I cannot tell."."""

from __future__ import annotations

from dynrefer.model.conversation import CANNOT_TELL
from dynrefer.workbench.training.converse.asked import AskedQuestion
from dynrefer.workbench.training.converse.samples import Samples, make_sample
from dynrefer.workbench.training.converse.strange_nouns import SHARE, with_strange_nouns


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
        assert make_sample(each, 0, samples.lexicon, {0}) is not None
    assert len({each.messages for each in strange}) > 0.9 * len(strange)
    assert found == with_strange_nouns(asked, samples.lexicon, samples.vectors, 0)


def test_others_stay_as_they_are(samples: Samples) -> None:
    asked = [
        *[_asked("What is the largest object?", "extreme")] * 200,
        *[_asked("What colour is <region:a>?", "colour")] * 200,
        *[_asked("Are there dogs?", "existence", answers=("yes", "no"))] * 200,
    ]
    assert with_strange_nouns(asked, samples.lexicon, samples.vectors, 0) == asked
