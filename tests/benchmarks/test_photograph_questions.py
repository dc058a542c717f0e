"""Sixty questions about photographs: the file, and what counts as right."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from PIL import Image

from benchmarks.photograph_questions import (
    KINDS,
    PHOTOGRAPHS,
    Answered,
    PhotographQuestion,
    is_right,
    read_questions,
    summary,
)
from dynrefer.model.conversation import REGION, GroundedSpan, Reply


def test_there_are_sixty_about_photographs_on_which_nothing_is_fitted() -> None:
    questions = read_questions()
    assert len(questions) == 60 and {each.kind for each in questions} == set(KINDS)
    labels = {each["file"]: each for each in json.loads((PHOTOGRAPHS / "labels.json").read_text("utf-8"))}
    assert {labels[each.file]["split"] for each in questions} == {"test"}
    answers = Counter(each.accepted for each in questions if each.kind == "yes_no")
    assert answers[("yes",)] == answers[("no",)] == 8


def test_regions_and_boxes_lie_in_their_photographs() -> None:
    for each in read_questions():
        assert set(REGION.findall(each.question)) == set(each.regions) and each.accepted
        assert (each.box is not None) == (each.kind == "where")
        with Image.open(PHOTOGRAPHS / each.file) as image:
            width, height = image.size
        for x1, y1, x2, y2 in (*each.regions.values(), *([each.box] if each.box else [])):
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


@pytest.mark.parametrize(
    ("kind", "accepted", "right", "wrong"),
    [
        ("name", ("mug", "coffee cup"), ("A mug.", "a white coffee cup"), ("A cup.", "A mug and a cat.", "not a mug")),
        ("colour", ("red", "orange"), ("It is red.", "Red and orange"), ("Blue.", "red and blue", "", "not red")),
        ("count", ("2",), ("Two.", "There are 2 dogs"), ("Three.", "two or three", "")),
        ("yes_no", ("no",), ("No.", "There is none."), ("Yes.", "", "maybe")),
        ("relation", ("right of", "right"), ("To the right", "It is right of it"), ("Left.", "left or right", "")),
        ("relation", ("above", "on"), ("on the table", "above it"), ("below", "")),
    ],
)
def test_an_answer_is_right_where_it_says_what_is_accepted_and_no_more(
    kind: str, accepted: tuple[str, ...], right: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    question = PhotographQuestion("cat.jpg", kind, "?", {}, accepted, None)
    assert [text for text in right if not is_right(question, Reply(text))] == []
    assert [text for text in (*wrong, "I cannot tell.") if is_right(question, Reply(text))] == []


def test_where_is_answered_by_the_first_box() -> None:
    question = PhotographQuestion("cat.jpg", "where", "?", {}, ("cat",), (0.0, 0.0, 10.0, 10.0))
    near, far = GroundedSpan((0, 1), (0.0, 0.0, 10.0, 8.0)), GroundedSpan((0, 1), (20.0, 0.0, 30.0, 8.0))
    assert is_right(question, Reply("Here.", (near, far)))
    assert not is_right(question, Reply("Here.", (far, near))) and not is_right(question, Reply("Here."))


def test_figures_are_parts_of_each_kind() -> None:
    found = [
        Answered(file, kind, "?", (), "", kind == "name", kind == "count")
        for file in ("a.jpg", "b.jpg")
        for kind in KINDS
    ]
    rows = summary(found)
    assert rows["name"]["right"] == 1 and rows["count"] == {
        "questions": 2,
        "right": 0.0,
        "error": 0.0,
        "cannot_tell": 1.0,
    }
    assert rows["all"]["questions"] == 12 and rows["all"]["right"] == pytest.approx(1 / 6, abs=1e-4)
