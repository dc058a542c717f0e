"""Arguments -> requests, and what of them is refused before anything is sent."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrefer.model import (
    AlphaMask,
    AskedName,
    BoxError,
    CaptionWriting,
    Explain,
    MaskFile,
    PointPrompt,
    PointsError,
    Polygon,
    QueryError,
    RegionMask,
    RequestVocabulary,
    Scribble,
    Task,
    ViewPolicy,
    Word,
    read_vocabulary,
)
from dynrefer.service.client.request_fields import (
    DescribeOptions,
    DetectOptions,
    describe_request,
    detect_request,
    vocabulary_request,
)

IMAGE = b"an image's bytes"
BOX = (1, 2, 3, 4)


def asked(boxes: Any = (BOX,), task: Any = None, **options: Any) -> dict[str, Any]:
    """The document of a request to describe, as it is sent."""
    outgoing = describe_request(IMAGE, boxes, task, "fail", options)  # type: ignore[arg-type]
    assert outgoing.path == "/v1/describe" and outgoing.image == IMAGE
    files = outgoing.body["files"]
    assert files["image"][1] == IMAGE
    document: dict[str, Any] = json.loads(files["request"][1])
    return document


def test_a_box_alone_leaves_everything_to_the_service() -> None:
    assert asked() == {"regions": [{"box": [1, 2, 3, 4]}]}


@pytest.mark.parametrize(
    ("region", "member"),
    [
        (np.array(BOX, dtype=np.float32), {"box": [1, 2, 3, 4]}),
        (
            Polygon(((1, 2, 3, 4, 5, 6), (7, 8, 9, 10, 11, 12))),
            {"polygon": [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]},
        ),
        (Scribble(((1, 2, 3, 4),)), {"scribble": [[1, 2, 3, 4]]}),
        (RegionMask((6, 8), "abc"), {"mask": {"size": [6, 8], "counts": "abc"}}),
        (MaskFile(b"png"), {"mask": {"png": base64.b64encode(b"png").decode()}}),
        (AlphaMask(), {"mask": "alpha"}),
        ({"id": "left", "box": [1, 2, 3, 4]}, {"id": "left", "box": [1, 2, 3, 4]}),
    ],
)
def test_each_kind_of_region(region: Any, member: dict[str, Any]) -> None:
    assert asked([BOX, region, BOX]) == {"regions": [{"box": [1, 2, 3, 4]}, member, {"box": [1, 2, 3, 4]}]}


def test_points_come_after_the_boxes() -> None:
    found = asked([BOX], points=[[(5, 6)], [(7, 8, False), PointPrompt(9, 10)]])["regions"]
    assert found[0] == {"box": [1, 2, 3, 4]}
    assert found[1] == {"points": [{"x": 5, "y": 6, "positive": True}]}
    assert [point["positive"] for point in found[2]["points"]] == [False, True]
    assert asked(None, points=[[(5, 6)]])["regions"] == found[1:2]


def test_without_a_region_the_whole_image_is_one() -> None:
    assert asked(None, ids=["all"]) == {"regions": [{"box": [0, 0, 1, 1], "id": "all"}], "coordinates": "unit"}
    with pytest.raises(QueryError, match="box_format needs a region"):
        asked(None, box_format="xywh")


def test_an_empty_list_of_boxes_is_nothing_to_ask() -> None:
    assert not describe_request(IMAGE, [], None, "fail", {}).has_regions
    assert not describe_request(IMAGE, iter(()), None, "fail", {}).has_regions
    assert describe_request(IMAGE, [], None, "fail", {"points": [[(1, 2)]]}).has_regions
    assert describe_request(IMAGE, None, None, "fail", {}).has_regions


def test_regions_may_come_from_a_generator() -> None:
    boxes = (each for each in [BOX, Scribble(((1, 2, 3, 4),))])
    assert [list(region) for region in asked(boxes)["regions"]] == [["box"], ["scribble"]]


def test_what_has_an_outline_is_highlighted() -> None:
    polygon = Polygon(((1, 2, 3, 4, 5, 6),))
    regions = asked([polygon, {"box": [1, 2, 3, 4]}], points=[[(5, 6)]], highlight=True)["regions"]
    assert [region["highlight"] for region in regions] == [True, True, True]  # the service refuses the second


def test_every_option_is_a_member_of_the_request() -> None:
    given: DescribeOptions = {
        "controls": ["red"],
        "controls_only": True,
        "num_captions": 2,
        "num_beams": 3,
        "max_words": 7,
        "views": [0, 0.5],
        "view_policy": ViewPolicy.FIXED,
        "top_k": 4,
        "thresholds": {Task.TAGS: 0.5},
        "vocabulary": "coco",
        "explain": Explain(thumbnails=True),
        "language": "de",
        "ids": ["left"],
        "box_format": "xywh",
        "coordinates": "percent",
        "normalized": False,
        "orientation": "stored",
    }
    assert asked(task=["caption", Task.TAGS], **given) == {
        "regions": [{"box": [1, 2, 3, 4], "id": "left"}],
        "task": ["caption", "tags"],
        "controls": ["red"],
        "controls_only": True,
        "num_captions": 2,
        "num_beams": 3,
        "max_words": 7,
        "views": [0, 0.5],
        "view_policy": "fixed",
        "top_k": 4,
        "thresholds": {"tags": 0.5},
        "vocabulary": "coco",
        "explain": {"candidates": True, "thumbnails": True, "evidence": True},
        "language": "de",
        "box_format": "xywh",
        "coordinates": "percent",
        "normalized": False,
        "orientation": "stored",
    }
    # What is left: how regions are pointed at, another way to write four of them, and what is about the call.
    others = {"points", "highlight", "writing", "timeout", "request_id"}
    assert set(given) == set(DescribeOptions.__annotations__) - others


def test_the_way_of_writing_of_the_model_is_another_word_for_its_members() -> None:
    assert asked(writing=CaptionWriting(num_captions=3)) == {**asked(), "num_captions": 3}
    assert asked(writing=CaptionWriting()) == asked()


def test_time_and_id_are_about_the_call() -> None:
    outgoing = describe_request(IMAGE, [BOX], None, "report", {"timeout": 3, "request_id": "mine"})
    assert (outgoing.timeout_s, outgoing.request_id) == (3, "mine")
    assert outgoing.document == {"regions": [{"box": [1.0, 2.0, 3.0, 4.0]}], "on_region_error": "report"}


def test_words_of_the_model_are_written_as_json() -> None:
    given = {
        "categories": ["dog", {"name": "mug", "synonyms": ["cup"], "threshold": 0.5}],
        "attributes": ["color:brown/tan"],
    }
    assert asked(vocabulary=given)["vocabulary"] == given
    written = asked(vocabulary=read_vocabulary(given))["vocabulary"]
    assert read_vocabulary(written) == read_vocabulary(given)
    fitted = RequestVocabulary(categories=(Word("dog"),), calibration=(("categories", 1.0, 0.0),))
    with pytest.raises(QueryError, match="calibration cannot be sent") as caught:
        asked(vocabulary=fitted)
    assert caught.value.field == "vocabulary"


@pytest.mark.parametrize(
    ("boxes", "options", "kind", "part"),
    [
        ((1, 2, 3, 4), {}, QueryError, "write one box as"),
        ([(1, 2, 3)], {}, BoxError, "not 3 values"),
        ("box", {}, QueryError, "boxes must be a list of boxes, not str"),
        ([BOX], {"points": (5, 6)}, QueryError, "points must be a list of groups"),
        ([BOX], {"points": [["here"]]}, PointsError, "A point must be"),
        ([BOX], {"controls": "red"}, QueryError, "write one as"),
        ([BOX], {"top_k": 0}, QueryError, "at least 1"),
        ([BOX], {"ids": ["a", "b"]}, QueryError, "one text for each of the 1 regions"),
        ([BOX], {"ids": "a"}, QueryError, "one text for each"),
        ([BOX], {"vocabulary": 3}, QueryError, "vocabulary must be a name"),
        ([BOX], {"explain": "yes"}, QueryError, "truth value"),
        ([BOX], {"view_policy": "best"}, ValueError, "best"),
        ([BOX], {"toppk": 3}, TypeError, "unexpected keyword argument 'toppk'. Did you mean 'top_k'?"),
    ],
)
def test_arguments_of_a_wrong_type(boxes: Any, options: dict[str, Any], kind: type[Exception], part: str) -> None:
    with pytest.raises(kind) as caught:
        asked(boxes, **options)
    assert part in str(caught.value)


def test_the_region_at_fault_has_its_index() -> None:
    with pytest.raises(BoxError) as caught:
        asked([BOX, {"box": [1, 2, 3, 4]}, (1, 2)])
    assert caught.value.index == 2


def test_nan_is_left_to_the_service_which_says_where_it_stands() -> None:
    body = describe_request(IMAGE, [(float("nan"), 0, 1, 1)], None, "fail", {}).body
    assert b"NaN" in body["files"]["request"][1]


def test_an_image_on_another_server_is_named_and_not_sent() -> None:
    outgoing = describe_request("https://images.example/dog.jpg", [BOX], None, "fail", {})
    assert outgoing.image is None
    assert json.loads(outgoing.body["content"])["image"] == {"url": "https://images.example/dog.jpg"}
    assert outgoing.body["headers"] == {"Content-Type": "application/json"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        describe_request(tmp_path / "none.png", [BOX], None, "fail", {})


def found(names: Any = (), phrase: str | None = None, describe: Any = None, **options: Any) -> dict[str, Any]:
    outgoing = detect_request(IMAGE, names, phrase, describe, options)  # type: ignore[arg-type]
    assert outgoing.path == "/v1/detect"
    document: dict[str, Any] = json.loads(outgoing.body["files"]["request"][1])
    return document


@pytest.mark.parametrize(
    "names", [["dog", "cup"], [AskedName("dog"), {"name": "cup"}], (name for name in ("dog", "cup"))]
)
def test_names_to_find(names: Sequence[Any]) -> None:
    assert [each["name"] for each in found(names)["names"]] == ["dog", "cup"]


def test_options_of_finding() -> None:
    given: DetectOptions = {
        "threshold": 0.3,
        "nms": 0.4,
        "max_regions": 5,
        "masks": True,
        "orientation": "stored",
        "language": "de",
    }
    mug = AskedName("mug", ("cup",), ("glass",))
    assert found([mug], None, ["caption"], **given) == {
        "names": [{"name": "mug", "synonyms": ["cup"], "not": ["glass"]}],
        "describe": {"task": ["caption"]},
        **given,
    }
    assert set(given) == set(DetectOptions.__annotations__) - {"timeout", "request_id"}


def test_finding_all_and_by_a_sentence() -> None:
    assert found() == {}
    assert found(phrase="a red cup", describe={}) == {"phrase": "a red cup", "describe": {}}
    assert found(describe={"task": "tags", "top_k": 3})["describe"] == {"task": ["tags"], "top_k": 3}


def test_what_cannot_be_found() -> None:
    with pytest.raises(ValueError, match="cannot be asked together"):
        found(["dog"], "a dog")
    with pytest.raises(TypeError, match="'treshold'. Did you mean 'threshold'"):
        found(treshold=0.5)
    with pytest.raises(TypeError, match="describe.. got an unexpected keyword argument 'topk'"):
        found(describe={"topk": 3})


def test_a_vocabulary_s_name_stands_in_the_path_whatever_it_holds() -> None:
    assert vocabulary_request("a b/ü").path == "/v1/vocabularies/a%20b%2F%C3%BC"
