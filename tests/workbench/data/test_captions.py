"""Captions cleaned as in the released code; control words by vocabulary and by part of speech."""

import pytest

from dynrefer.model.vocabulary import Attribute, Vocabulary
from dynrefer.workbench.data.captions import PartOfSpeech, VocabularyWords, clean_caption, extended_by_nouns

WORDS = VocabularyWords(
    Vocabulary(
        tags=("dog", "traffic light", "berry", "bus", "glass", "dish"),
        attributes=(Attribute("color:brown", "color", ("brown", "dark brown"), "is"),),
        categories=("Hot dog", "Cat"),
    )
)


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("A Brown DOG.", "a brown dog"),
        ('  the "man" (left)#1:~ ;runs! *fast*  ', "the man left 1 runs fast"),
        ("a man's hat, worn", "a man's hat, worn"),
        (" ".join(["word"] * 60), " ".join(["word"] * 50)),
        ("...", ""),
    ],
)
def test_clean_caption(given: str, cleaned: str) -> None:
    assert clean_caption(given) == cleaned


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("a dog", (0,)),
        ("two dogs under traffic lights", (0, 1)),
        ("berries in a glass by the bus", (2, 3, 4)),
        ("dishes", (5,)),
        ("a light in traffic", ()),
        ("dogged", ()),
    ],
)
def test_tags_in_a_caption(caption: str, tags: tuple[int, ...]) -> None:
    assert WORDS.tags(caption) == tags


def test_a_tag_by_name() -> None:
    assert (WORDS.tag("Traffic Light"), WORDS.tag("cow")) == (1, None)


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a brown dog on a wall", ["brown dog", "dog"]),
        ("a dark brown cat", ["dark", "brown cat", "cat"]),
        ("the traffic light", ["light"]),
        ("dog dog", ["dog dog", "dog"]),
        ("???", []),
    ],
)
def test_phrases_by_vocabulary(caption: str, phrases: list[str]) -> None:
    assert WORDS.phrases(caption) == phrases


def test_phrases_by_part_of_speech() -> None:
    finder = PartOfSpeech()
    assert finder.phrases("a small brown dog near a wooden table") == [
        "small",
        "brown dog",
        "dog",
        "wooden table",
        "table",
    ]
    assert finder.phrases("???") == []


def test_words_are_extended_by_the_nouns_after_them() -> None:
    found = extended_by_nouns(["red", "fire", "truck", "runs"], [True, True, True, False], [False, True, True, False])
    assert found == ["red fire truck", "fire truck", "truck"]
