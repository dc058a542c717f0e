"""The order of a conversation's tokens, and answers as text."""

from __future__ import annotations

import numpy as np

from dynrefer.model.networks.converse.embedded.dialogue import WrittenName, read_dialogue, write
from dynrefer.model.networks.converse.embedded.lexicon import ASSISTANT, CHOICE, REGION_SLOT, USER, Lexicon

LEXICON = Lexicon(("is", "it", "what"), {"dog": (0, False)}, np.ones((1, 1), np.float32), {})


def test_regions_come_first_and_the_answer_last() -> None:
    tokens = read_dialogue(LEXICON, [("user", "what is <region:b>")], ["a", "b"], ["dog", "it"])
    words = [token.word for token in tokens]
    assert words[:3] == [REGION_SLOT, REGION_SLOT, USER] and words[-1] == ASSISTANT
    assert words.count(CHOICE) == 2 and words[-2] == CHOICE
    assert [token.region for token in tokens if token.region >= 0] == [0, 1, 1]


def test_a_turn_before_is_the_assistants() -> None:
    messages = [("user", "what"), ("assistant", "dog"), ("user", "it")]
    assert [token.word for token in read_dialogue(LEXICON, messages, [], [])].count(ASSISTANT) == 2


def test_an_article_fits_the_name_behind_it_and_names_have_spans() -> None:
    found = write(["a", WrittenName(0, "owl"), "and", "a", WrittenName(1, "dog"), "."], done=True)
    assert found.text == "An owl and a dog."
    assert [found.text[slice(*span)] for span in found.spans] == ["owl", "dog"]


def test_what_is_stable_stays() -> None:
    parts: list[str | WrittenName] = ["yes", ",", "a", WrittenName(0, "apple"), "."]
    whole = write(parts, done=True).text
    for length in range(1, len(parts)):
        part = write(parts[:length], done=False)
        assert whole.startswith(part.text[: part.stable])
