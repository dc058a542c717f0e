"""Words of captions, found by rule."""

import pytest

from dynrefer.model.caption_words import NOUN, PROPERTY, KnownWord, found_words

KNOWN = {
    "hot dog": KnownWord(NOUN, ("hot dog",)),
    "dog": KnownWord(NOUN, ("dog",)),
    "knife": KnownWord(NOUN, ("knife",)),
    "cherry": KnownWord(NOUN, ("cherries",)),
    "bus": KnownWord(NOUN, ("bus",)),
    "in front of": KnownWord(PROPERTY, ("in front of",)),
    "red": KnownWord(PROPERTY, ("red",)),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a hot dog in front of 2 dogs", [("hot dog", NOUN), ("in front of", PROPERTY), ("dogs", NOUN)]),
        ("Red knives and cherries", [("Red", PROPERTY), ("knives", NOUN), ("cherries", NOUN)]),
        ("two buses, a hot-dog", [("buses", NOUN), ("hot-dog", "unknown")]),
        ("a man is lying on the sofa", [("man", "unknown"), ("lying", "unknown"), ("sofa", "unknown")]),
        ("another object", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[tuple[str, str]]) -> None:
    found = list(found_words(text, KNOWN))
    assert [(word.text, word.kind) for word in found] == expected
    assert all(text[word.start : word.end] == word.text for word in found)


def test_without_lists() -> None:
    assert [word.text for word in found_words("a red dog", {})] == ["red", "dog"]
