"""Phrase, category and parent of a region that nothing was asked about: they agree."""

import pytest

from dynrefer.model.hierarchy import levels
from dynrefer.model.types import Caption, Label, RegionDescription, Task


def described(text: str, *labels: Label) -> RegionDescription:
    results = {Task.CAPTION: Caption(text, 1.0, 0.0, 0.0), Task.CATEGORIES: labels}
    return RegionDescription((0, 0, 1, 1), clipped=False, plan=None, plans={}, results=results)


def above(name: str) -> str | None:
    return {"dog": "animal", "owl": "bird"}.get(name)


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
        # it names none of them: the best category, and no phrase that says something else
        ("a small thing", (Label("dog", 5.0, 0.6),), ("dog", "dog", "animal")),
        ("a white bird", (Label("bird", 1.0, 0.7, "parent"), Label("owl", 2.0, 0.3)), ("a white bird", "owl", "bird")),
        ("two words", (), ("two words", "two words", None)),
    ],
)
def test_the_levels_agree(text: str, labels: tuple[Label, ...], expected: tuple[str, str, str | None]) -> None:
    assert levels(described(text, *labels), above)[:3] == expected
