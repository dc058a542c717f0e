"""What is given to the Python interface: taken, or refused by the name of its type."""

from typing import Any

import numpy as np
import pytest
import torch

from dynrefer.model.arguments import box_corners, region_queries
from dynrefer.model.errors import BoxError, PointsError, QueryError
from dynrefer.model.types import CaptionWriting, PointPrompt, RegionQuery, Task

BOX = (41.0, 2.0, 117.0, 82.0)


def queries(**changed: Any) -> list[RegionQuery]:
    given = {"boxes": [BOX], "task": None, "controls": (), "views": None, "top_k": 10, "thresholds": None}
    return region_queries(**{**given, **changed})


@pytest.mark.parametrize(
    "boxes",
    [
        [list(BOX)],
        (BOX,),
        iter([BOX]),
        np.array([BOX]),
        np.array([[41, 2, 117, 82]]),
        torch.tensor([BOX]),
        [[np.float32(41), np.int64(2), 117, 82.0]],
    ],
)
def test_boxes_in_any_form(boxes: Any) -> None:
    (query,) = queries(boxes=boxes)
    assert query.box == BOX and {type(value) for value in query.box} == {float}


@pytest.mark.parametrize("boxes", [BOX, list(BOX), np.array(BOX), torch.tensor(BOX)])
def test_one_box_in_place_of_a_list(boxes: Any) -> None:
    with pytest.raises(QueryError, match=r"write one box as \[\(x1, y1, x2, y2\)\]"):
        queries(boxes=boxes)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((*BOX, 0.9), "not 5 values"),
        (BOX[:3], "not 3 values"),
        ((), "not 0 values"),
        ("41,2,117,82", "not str"),
        (b"abcd", "not bytes"),
        ({"x": 1}, "not dict"),
        (None, "not NoneType"),
        (("41", "2", "117", "82"), "tuple of str"),
        ((True, True, True, True), "tuple of bool"),
        ((1, 2, None, 4), "NoneType"),
        ([[1, 2], [3, 4], [5, 6], [7, 8]], "list of list"),
    ],
)
def test_what_is_no_box(box: Any, words: str) -> None:
    with pytest.raises(BoxError, match=words) as refused:
        queries(boxes=[BOX, box])
    assert refused.value.index == 1 and refused.value.field == "box"
    with pytest.raises(BoxError):
        box_corners(box)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("boxes", None, "NoneType"),
        ("boxes", 5, "int"),
        ("boxes", "41,2,117,82", "str"),
        ("boxes", {"box": BOX}, "dict"),
        ("task", 5, "int"),
        ("task", {"caption": 1}, "dict"),
        ("controls", "grass", r"str: write one as \['grass'\]"),
        ("controls", b"grass", "bytes"),
        ("controls", ["a", 1], "int"),
        ("controls", None, "NoneType"),
        ("views", "0,0.5,1", "str"),
        ("views", 0.5, "float"),
        ("views", ["0"], "str"),
        ("top_k", 0, "at least 1"),
        ("top_k", -1, "at least 1"),
        ("top_k", 2.5, "float"),
        ("top_k", "3", "str"),
        ("top_k", None, "NoneType"),
        ("top_k", True, "bool"),
        ("thresholds", 0.5, "float"),
        ("thresholds", [0.5], "list"),
        ("thresholds", {"tags": "high"}, "'high'"),
        ("thresholds", {"tags": float("nan")}, "nan"),
    ],
)
def test_other_arguments_of_a_wrong_type_or_range(field: str, value: Any, words: str) -> None:
    with pytest.raises(QueryError, match=words) as refused:
        queries(**{field: value})
    assert refused.value.field == ("box" if field == "boxes" else field)


def test_an_unknown_task_is_a_value_error() -> None:
    for given in ({"task": "poem"}, {"task": ["tags", 5]}, {"thresholds": {"poem": 1}}):
        with pytest.raises(ValueError):
            queries(**given)


def test_what_is_right_is_kept() -> None:
    (query,) = queries(
        task=["tags", Task.CAPTION, "tags"],
        controls=["grass"],
        views=np.array([0, 0.5, 1]),
        top_k=np.int64(3),
        thresholds={"tags": np.float32(0.5)},
    )
    assert query == RegionQuery(BOX, (Task.TAGS, Task.CAPTION), ("grass",), (0.0, 0.5, 1.0), 3, {Task.TAGS: 0.5})
    assert queries(boxes=[]) == []


@pytest.mark.parametrize(
    ("writing", "field", "words"),
    [
        ({"num_captions": 3}, "writing", "must be a CaptionWriting, not dict"),
        (CaptionWriting(num_captions=0), "num_captions", "at least 1, not 0"),
        (CaptionWriting(num_beams=True), "num_beams", "at least 1, not True"),
        (CaptionWriting(max_words=2.5), "max_words", "not 2.5"),  # type: ignore[arg-type]
        (CaptionWriting(num_captions=3, num_beams=2), "num_beams", "3 captions need at least so many beams"),
    ],
)
def test_refused_searches_of_captions(writing: Any, field: str, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        queries(writing=writing)
    assert caught.value.field == field


def test_a_search_of_captions_is_passed_on() -> None:
    writing = CaptionWriting(True, 2, 4, 6)
    assert [each.writing for each in queries(writing=writing)] == [writing]
    assert queries()[0].writing == CaptionWriting()


def test_groups_of_points_follow_the_boxes() -> None:
    box, first, second = queries(points=[[(1, 2)], [PointPrompt(3, 4), (5, 6, False), np.array([7.0, 8.0])]])
    assert box.box == BOX and box.points == ()
    assert first.points == (PointPrompt(1.0, 2.0),)
    assert second.points == (PointPrompt(3, 4), PointPrompt(5.0, 6.0, positive=False), PointPrompt(7.0, 8.0))
    assert queries(boxes=[], points=np.array([[[1, 2]]]))[0].points == (PointPrompt(1.0, 2.0),)


@pytest.mark.parametrize("points", [5, "1,2", [PointPrompt(1, 2)], [1, 2]])
def test_points_that_are_not_in_groups(points: Any) -> None:
    with pytest.raises(QueryError, match=r"one group per region: \[\[\(x, y\)\]\]"):
        queries(points=points)


@pytest.mark.parametrize("group", [[], [(1,)], [("1", "2")], [(1, 2, True, 4)], "12", [None]])
def test_what_is_no_group_of_points(group: Any) -> None:
    with pytest.raises(PointsError) as raised:
        queries(points=[[(1, 2)], group])
    assert raised.value.index == 2 and raised.value.field == "points"
