"""Captions of corrections as a language model with a placeholder learns them."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoTokenizer

from dynrefer.model.evidence.noun_phrases import Noun, put_noun
from dynrefer.model.loading import EMBEDDED
from dynrefer.workbench.data.captions import VocabularyWords
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import world_vocabulary
from dynrefer.workbench.training.corrections.caption_examples import (
    CaptionExample,
    control_text,
    placeholder_caption,
    writable,
)

NOUNS = {"scissors": Noun("scissors", "a pair of"), "broccoli": Noun("broccoli", "")}


def noun_of(name: str) -> Noun:
    return NOUNS.get(name, Noun(name))


@pytest.mark.parametrize(
    ("caption", "name", "expected"),
    [
        ("a red dog on the grass", "dog", "a red ~ on the grass"),
        ("on the beach an owl", "owl", "on the beach a ~"),
        ("a pair of red scissors on a desk", "scissors", "a red ~ on a desk"),
        ("large broccoli on a desk", "broccoli", "a large ~ on a desk"),
        ("an orange cat", "cat", "an orange ~"),
        ("the dog", "dog", "the ~"),
        ("dog, red", "dog", "~, red"),
    ],
)
def test_putting_the_noun_in_gives_the_caption_back(caption: str, name: str, expected: str) -> None:
    found = placeholder_caption(caption, [name], "~", noun_of)
    assert found == expected and put_noun(found, noun_of(name), "~") == caption


def test_a_caption_without_its_name_is_none() -> None:
    assert placeholder_caption("a brown animal", ["dog"], "~", noun_of) is None
    assert placeholder_caption("a hotdog-shaped sign", ["hotdog"], "~", noun_of) is None


def test_the_placeholder_leads_and_tags_follow_in_their_order() -> None:
    finder, rng = VocabularyWords(world_vocabulary(World.load())), np.random.default_rng(0)
    example = CaptionExample("a red ~", ("red", "beach", "animal"))
    texts = [control_text(example, finder, "~", rng) for _ in range(60)]
    assert {"~,red,beach,animal|", "~,red,animal|"} <= set(texts) and all(text.startswith("~") for text in texts)
    assert any(control_text(CaptionExample("a red dog", ()), finder, None, rng) == "|" for _ in range(9))


def test_a_tokenizer_without_capitals_gets_lower_case() -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "language_tokenizer")
    assert writable("A red Dog.", tokenizer) == "a red dog" and writable("a red dog", tokenizer) == "a red dog"
