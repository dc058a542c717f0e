"""Names, colours and other words in captions, by hand."""

from __future__ import annotations

import pytest

from dynrefer.workbench.evaluation.metrics.caption_claims import (
    any_same,
    colours_in,
    first_name,
    named_in,
    other_claims,
    same_name,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("dog", "Dogs"), ("bus", "buses"), ("butterfly", "butterflies"), ("fireman", "firemen")),
        *(("person", "people"), ("red panda", "red pandas"), ("scissors", "scissors"), ("wolf", "wolves")),
    ],
)
def test_a_plural_is_the_same_name(one: str, other: str) -> None:
    assert same_name(one, other) and same_name(other, one)


def test_other_names_are_not_the_same() -> None:
    assert not same_name("dog", "hot dog") and not same_name("bear", "brown bear") and not same_name("", "")
    assert any_same("dogs", ("cat", "dog")) and not any_same("dog", ())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *(("two dogs", True), ("a Dog, asleep", True), ("a hotdog", False), ("a dog-eared book", False)),
        *(("a dogma", False), ("", False)),
    ],
)
def test_names_are_whole_words(text: str, found: bool) -> None:
    assert named_in(text, ("dog",)) is found


def test_the_first_name_is_the_longest_that_begins_there() -> None:
    names = ("bear", "brown bear", "fish", "object")
    assert first_name("in a city a brown bear behind another object and a fish", names) == "brown bear"
    assert first_name("a gray pededskirt", names) is None


def test_colours_are_not_those_of_the_name() -> None:
    assert colours_in("a Brown red panda", ("red panda",)) == ("brown",)
    assert colours_in("an orange", ("orange",)) == ()
    assert colours_in("a grey and gray, beige cat", ("cat",)) == ("gray", "beige")


def test_other_claims_are_what_is_neither_noun_nor_colour() -> None:
    caption = "on a wooden floor a large orange bee behind another object"
    assert other_claims(caption, ("bee",)) == ("wooden", "floor", "large", "behind", "another", "object")
    assert other_claims("a pair of black scissors", ("scissors",)) == ()
