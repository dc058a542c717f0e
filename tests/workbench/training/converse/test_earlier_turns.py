"""A share of the questions follow another one, which changes nothing of what they ask."""

from __future__ import annotations

import re

from dynrefer.workbench.training.converse.asked import AskedQuestion
from dynrefer.workbench.training.converse.earlier_turns import SHARE, with_earlier_turns
from dynrefer.workbench.training.converse.samples import Samples, make_sample


def _questions(seed: int, count: int) -> list[AskedQuestion]:
    return [
        AskedQuestion(
            seed,
            "name",
            (("user", f"What is <region:a>, the {place}th?"),),
            (("a", place % 3),),
            (),
            "A dog.",
            ((2, 5, place % 3),),
        )
        for place in range(count)
    ]


def test_a_share_of_questions_follows_another_one_of_the_scene() -> None:
    asked = [*_questions(1, 200), *_questions(2, 200)]
    found = with_earlier_turns(asked, 0)
    longer = [(old, new) for old, new in zip(asked, found, strict=True) if old != new]
    assert 0.7 * SHARE < len(longer) / len(asked) < 1.3 * SHARE
    for old, new in longer:
        first, answer, last = new.messages
        assert (last, new.answer, new.spans) == (*old.messages, old.answer, old.spans)
        assert answer == ("assistant", "A dog.") and new.regions[-1] == old.regions[0]
        names = [name for name, _ in new.regions]
        assert len(set(names)) == len(names)
        assert set(re.findall(r"<region:(\w+)>", first[1] + last[1])) == set(names)
    assert found == with_earlier_turns(asked, 0) != with_earlier_turns(asked, 1)


def test_follow_ups_and_lone_questions_stay() -> None:
    (lone,) = _questions(1, 1)
    turns = (("user", "What is it?"), ("assistant", "A dog."), ("user", "What colour?"))
    follow_up = AskedQuestion(2, "follow_up", turns, (), (), "It is red.", ())
    asked = [lone, *[follow_up] * 50]
    assert with_earlier_turns(asked, 0) == asked


def test_they_can_be_trained_on(samples: Samples) -> None:
    asked = with_earlier_turns(_questions(samples.scenes[0].seed, 40), 0)
    made = [make_sample(each, 0, samples.lexicon, {0, 1, 2}) for each in asked]
    lengths = {len(each) for each in made if each is not None}
    assert None not in made and max(lengths) > 1.5 * min(lengths)
