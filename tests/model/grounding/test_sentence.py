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
    "a pair of scissors on the desk": ["a pair of scissors", "the desk"],
    "lots of apples": ["lots of apples"],
    "a bowl of soup beside a slice of bread": ["a bowl of soup", "a slice of bread"],
    "the larger of the two dogs": ["the larger of the two dogs"],
    "a photo of a cat in the background": ["a cat"],
    "a man riding a horse": ["a man", "a horse"],
    "men riding horses": ["men", "horses"],
    "a woman wearing a hat holding an umbrella": ["a woman", "a hat", "an umbrella"],
    "dogs chasing cats": ["dogs", "cats"],
    "the running dog": ["the running dog"],
    "a wall covered with ivy": ["a wall", "ivy"],
    "the black and white cat": ["the black and white cat"],
    "a small, red cup, a plate": ["a small, red cup", "a plate"],
    "the red and the white cup": ["the red", "the white cup"],
    "the cup on the left": ["the cup"],
    "the cup on the bottom shelf": ["the cup", "the bottom shelf"],
    "the third cup from the right": ["the third cup"],
    "the cup that is red": ["the cup"],
    "the dog with stripes": ["the dog"],
    "a cup, not red": ["a cup"],
    "On the floor, a dog.": ["the floor", "a dog"],
    "on grass large purple grapes": ["grass", "large purple grapes"],
    "at night a large bell": ["a large bell"],
    "at night large red bells": ["large red bells"],
    'a "red" dog': ['a "red" dog'],
    "\u0915\u0941\u0924\u094d\u0924\u093e": ["\u0915\u0941\u0924\u094d\u0924\u093e"],
    "a very small dog": ["a very small dog"],
    "the dog \U0001f436 and the cat": ["the dog", "the cat"],
    "cafe\u0301s": ["cafe\u0301s"],
    "\u72d7\u5728\u684c\u5b50\u4e0a": ["\u72d7\u5728\u684c\u5b50\u4e0a"],
    "\n\tthe  dog\u00a0": ["the  dog"],
    "the <b>dog</b>; DROP TABLE cats": ["b", "dog", "b", "DROP TABLE cats"],
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


@pytest.mark.parametrize(
    ("sentence", "expected"),
    {
        "the cup on the table left of the dog": [("on", (1,)), ("left of", (2,))],  # of the cup both
        "the cup on the table, left of the dog": [("on", (1,)), ("left of", (2,))],
        "the cup on the table and left of the dog": [("on", (1,)), ("left of", (2,))],
        "the cup left of the dog on the table": [("left of", (1,))],  # where the dog is
        "the cup which is to the right of the dog": [("right of", (1,))],
        "the cup on the left side of the table": [("left of", (1,))],
        "the man on the right of the girl": [("right of", (1,))],
        "the object nearest to the dog": [("next to", (1,))],
        "the cup between two dogs": [("between", (1,))],
        "a cup larger than the dog": [("larger than", (1,))],
        "a cup. On the table a dog.": [],
    }.items(),
)
def test_relations_of_the_first_phrase(sentence: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    first = read_sentence(sentence)[0]
    assert [(each.kind, each.targets) for each in first.relations] == expected


def test_a_relation_may_come_first() -> None:
    dog, cat = read_sentence("Left of the dog is a cat")
    assert not dog.relations
    assert [(each.kind, each.targets) for each in cat.relations] == [("left of", (0,))]


@pytest.mark.parametrize(
    ("sentence", "noun", "modifiers"),
    [
        ("the cup that is red and small", "cup", ("red", "small")),
        ("the cup next to the plate is red", "cup", ("red",)),
        ("the cup is not red", "cup", ()),
        ("the cup with a dotted pattern", "cup", ("dotted",)),
        ("a dark-blue car", "car", ("blue",)),
        ("a light blue car", "car", ("blue",)),
        ("the light", "light", ()),
        ("the upside down cup", "cup", ("upside-down",)),
        ("the woman's red handbag", "handbag", ("red",)),
        ("red", "", ("red",)),
        ("a bowl of red soup", "bowl", ()),
        ("a group of red dogs", "dogs", ("red",)),
    ],
)
def test_nouns_and_modifiers(sentence: str, noun: str, modifiers: tuple[str, ...]) -> None:
    first = read_sentence(sentence)[0]
    assert (first.noun, first.modifiers) == (noun, modifiers)


@pytest.mark.parametrize(
    ("sentence", "ranks", "ordinal"),
    [
        ("the third cup from the right", ("rightmost",), 3),
        ("the second largest cup", ("largest",), 2),
        ("the second cup", ("leftmost",), 2),
        ("the cup in the middle", ("middle",), 1),
        ("the cup at the top of the picture", ("topmost",), 1),
        ("the smaller of the two cups", ("smallest",), 1),
    ],
)
def test_ranks(sentence: str, ranks: tuple[str, ...], ordinal: int) -> None:
    (first,) = read_sentence(sentence)
    assert (first.ranks, first.ordinal, first.many) == (ranks, ordinal, False)
    assert first.noun in ("cup", "cups")


@pytest.mark.parametrize(
    ("sentence", "many"),
    [("people", True), ("a group of people", True), ("one of the dogs", False), ("both dogs", True), ("3 dogs", True)]
    + [("a pair of trousers", False), ("a dog", False), ("each dog", True), ("one dog", False)],
)
def test_whether_several_are_meant(sentence: str, many: bool) -> None:
    assert [each.many for each in read_sentence(sentence)] == [many]


@pytest.mark.parametrize(
    "sentence", ["of " * 5000, "the red and " * 5000, "-'" * 9000, "on the left " * 5000, "a" * 99999]
)
def test_hostile_sentences_end(sentence: str) -> None:
    for each in read_sentence(sentence):
        assert sentence[slice(*each.phrase.span)] == each.phrase.text
