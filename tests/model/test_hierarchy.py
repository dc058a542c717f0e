"""Phrase, category and parent of a region that nothing was asked about: they agree."""

import pytest

from dynrefer.model.hierarchy import levels
from dynrefer.model.types import Caption, Label, RegionDescription, Task


def described(text: str, *labels: Label) -> RegionDescription:
    results = {Task.CAPTION: Caption(text, 1.0, 0.0, 0.0), Task.CATEGORIES: labels}
    return RegionDescription((0, 0, 1, 1), clipped=False, plan=None, plans={}, results=results)


def above(name: str) -> tuple[str, ...]:
    return {"dog": ("animal",), "owl": ("bird", "animal"), "bird": ("animal",)}.get(name, ())


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        (
            "on a wooden floor a brown dog left of another object",
            (Label("dog", 5.0, 0.9),),
            ("a brown dog", "dog", "animal"),
        ),
        # the caption names another category of the list: that is the one
        ("a small cat", (Label("dog", 5.0, 0.5), Label("cat", 4.0, 0.4)), ("a small cat", "cat", None)),
        # a caption is not believed against what is much likelier: the category stands in its phrase
        ("a small cat", (Label("dog", 5.0, 0.9), Label("cat", 4.0, 0.1)), ("a small dog", "dog", "animal")),
        # it names none of them: the best category stands in its phrase, with its article
        ("a small thing", (Label("dog", 5.0, 0.6),), ("a small dog", "dog", "animal")),
        ("a tractor", (Label("owl", 5.0, 0.6),), ("an owl", "owl", "bird")),
        ("", (Label("dog", 5.0, 0.6),), ("dog", "dog", "animal")),
        # a dog is beside the object, and is not it
        ("a red cup left of a dog", (Label("mug", 5.0, 0.5), Label("dog", 5.0, 0.4)), ("a red mug", "mug", None)),
        ("a bowl of soup", (Label("soup", 5.0, 0.6),), ("a bowl of soup", "soup", None)),
        # unsure of the name: the phrase says the parent, and the category is below it
        ("a white bird", (Label("bird", 1.0, 0.7, "parent"), Label("owl", 2.0, 0.3)), ("a white bird", "owl", "bird")),
        (
            "a white bird",
            (Label("animal", 1.0, 0.7, "parent"), Label("car", 2.0, 0.3), Label("owl", 2.0, 0.2)),
            ("a white animal", "owl", "animal"),
        ),
        ("a bird", (Label("animal", 1.0, 0.7, "parent"), Label("car", 2.0, 0.3)), ("a car", "car", None)),
        ("a bird", (Label("bird", 1.0, 0.7, "parent"),), ("a bird", "bird", None)),
        ("two words", (), ("two words", "two words", None)),
    ],
)
def test_the_levels_agree(text: str, labels: tuple[Label, ...], expected: tuple[str, str, str | None]) -> None:
    assert levels(described(text, *labels), above)[:3] == expected


@pytest.mark.parametrize(("probability", "expected"), [(0.9, "dog"), (0.5, "dog"), (0.49, "animal")])
def test_an_unsure_object_is_called_by_its_parent(probability: float, expected: str) -> None:
    assert levels(described("a dog", Label("dog", 5.0, probability)), above).label == expected


def test_without_a_parent_the_category_is_said() -> None:
    assert levels(described("a cat", Label("cat", 5.0, 0.1)), above).label == "cat"
