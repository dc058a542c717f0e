"""Noun phrases of sentences, with their characters and what is said of them."""

import pytest

from dynrefer.model.grounding.sentence import noun_phrases, read_sentence

CASES = {
    "the red cup left of the dog": ["the red cup", "the dog"],
    "A man sitting on a bench with a hat, and two women.": ["A man", "a bench", "a hat", "two women"],
    "The traffic light": ["The traffic light"],
    "the leftmost thing between the cat and the dog": ["the leftmost thing", "the cat", "the dog"],
    "a hot dog on top of a plate": ["a hot dog", "a plate"],
    "an orange": ["an orange"],
    "the orange orange": ["the orange orange"],
    "a caf\u00e9 near the \u00e9l\u00e9phant": ["a caf\u00e9", "the \u00e9l\u00e9phant"],
    "a dog's bowl": ["a dog's bowl"],
    "There is a bird in the tree": ["a bird", "the tree"],
    "the glass in front of the tv": ["the glass", "the tv"],
    "a teddy bear, a cake and three balloons": ["a teddy bear", "a cake", "three balloons"],
    "dog": ["dog"],
    "": [],
    "?!  ...": [],
    "the the the": [],
    "on of under": [],
}


@pytest.mark.parametrize(("sentence", "expected"), CASES.items(), ids=CASES)
def test_phrases_are_the_sentences_own_characters(sentence: str, expected: list[str]) -> None:
    found = noun_phrases(sentence)
    assert [each.text for each in found] == expected
    assert [sentence[slice(*each.span)] for each in found] == expected


def test_what_is_said_of_an_object() -> None:
    cup, dogs = read_sentence("the small Red cup to the left of the dogs")
    assert (cup.noun, cup.modifiers, cup.many) == ("cup", ("small", "red"), False)
    assert [(each.kind, each.targets) for each in cup.relations] == [("left of", (1,))]
    assert (dogs.noun, dogs.many, dogs.relations) == ("dogs", True, ())


def test_words_are_as_attributes_call_them() -> None:
    (found,) = read_sentence("the big spotted grey thing")
    assert (found.noun, found.modifiers) == ("", ("large", "dotted", "gray"))


def test_between_has_two_targets_and_ranks_compare() -> None:
    thing, *_ = read_sentence("the biggest object between the cat and the dog")
    assert (thing.noun, thing.ranks) == ("", ("largest",))
    assert [(each.kind, each.targets) for each in thing.relations] == [("between", (1, 2))]


def test_singular_words_that_end_like_plurals() -> None:
    assert [each.many for each in read_sentence("a glass and a bus and the scissors")] == [False, False, False]


def test_a_huge_sentence_is_bounded() -> None:
    assert len(read_sentence("a dog and " * 10_000)) == 32
