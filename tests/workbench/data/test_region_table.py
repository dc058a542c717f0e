"""Training's view of annotation files: every way in which one annotation, one line or the whole file can be wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.errors import ModelError
from dynrefer.model.geometry import BoxFormat
from dynrefer.model.vocabulary import Attribute, Vocabulary
from dynrefer.workbench.data import bad_samples
from dynrefer.workbench.data.annotations import AnnotationSource
from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.data.region_table import Region, RegionTable, read_regions
from dynrefer.workbench.errors import DataError, TooManyBadSamplesError

VOCABULARY = Vocabulary(
    tags=("dog", "grass", "traffic light", "ball"),
    attributes=(Attribute("color:brown", "color", ("brown",), "is"),),
    categories=("dog",),
)
ANNOTATION: dict[str, Any] = {
    "id": 7,
    "image_id": 1,
    "caption": "A brown dog, on the grass!",
    "segmentation": [[10, 20, 30, 20, 30, 60]],
    "bbox": [1, 2, 3, 4],
    "extra_info": {"parser_result": {"tag_set1": [0], "tag_set2": [0, 3]}},
}
DOCUMENT: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 70}, {"id": 2, "file_name": "b.png"}],
    "annotations": [ANNOTATION],
    "categories": [{"id": 3, "name": "dog"}],
}
RLE = {"size": [4, 5], "counts": [5, 2, 2, 2, 9]}  # rows 1 and 2 of columns 1 and 2


def read(
    tmp_path: Path,
    document: object,
    captions: list[Any] | None = None,
    box_format: str | None = "xywh",
    root: bool = True,
) -> tuple[RegionTable, BadSampleReport]:
    file, lines = tmp_path / "train.json", tmp_path / "captions.jsonl"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    if captions is not None:
        lines.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in captions))
    source = AnnotationSource(
        file,
        tmp_path if root else None,
        None if captions is None else lines,
        BoxFormat(box_format) if box_format else None,
    )
    table, report = read_regions(source, VOCABULARY)
    report.check()
    return table, report


def with_annotation(**changes: Any) -> dict[str, Any]:
    """The document with its annotation changed; None removes a member."""
    annotation = {**copy.deepcopy(ANNOTATION), **changes}
    return {**DOCUMENT, "annotations": [{name: value for name, value in annotation.items() if value is not None}]}


def test_the_official_form(tmp_path: Path) -> None:
    table, report = read(tmp_path, DOCUMENT)
    assert list(table) == [
        Region(
            name="annotation 7 (a.png)",
            image=str(tmp_path / "a.png"),
            listed_size=(80, 70),
            box=(10.0, 20.0, 30.0, 60.0),  # the segmentation's, not the bbox
            caption="a brown dog, on the grass",
            tags=(0, 3),  # the union of both sets
        )
    ]
    assert (report.total, report.found) == (1, {})


@pytest.mark.parametrize(
    ("changes", "box_format", "box"),
    [
        ({"segmentation": None}, BoxFormat.XYWH, (1.0, 2.0, 4.0, 6.0)),
        ({"segmentation": []}, BoxFormat.XYXY, (1.0, 2.0, 3.0, 4.0)),
        ({"segmentation": RLE}, BoxFormat.XYWH, (1.0, 1.0, 2.0, 2.0)),
        ({"segmentation": None}, None, (1.0, 2.0, 3.0, 4.0)),
        ({"segmentation": None, "extra_info": None}, None, (1.0, 2.0, 4.0, 6.0)),
        ({"segmentation": [[5, 5, 9, 5, 9, 9], [20, 1, 21, 2]]}, BoxFormat.XYWH, (5.0, 1.0, 21.0, 9.0)),
    ],
    ids=["bbox", "bbox as corners", "run lengths", "official", "plain", "polygons"],
)
def test_where_the_box_comes_from(
    changes: dict[str, Any], box_format: BoxFormat | None, box: tuple[float, ...], tmp_path: Path
) -> None:
    assert read(tmp_path, with_annotation(**changes), box_format=box_format)[0][0].box == box


def test_without_indices_the_tags_are_in_the_words(tmp_path: Path) -> None:
    document = with_annotation(extra_info=None, caption="two traffic lights near some balls", category_id=3)
    assert read(tmp_path, document)[0][0].tags == (0, 2, 3)  # the category's name too


def test_an_empty_tag_set_stays_empty(tmp_path: Path) -> None:
    document = with_annotation(extra_info={"parser_result": {"tag_set1": []}})
    assert read(tmp_path, document)[0][0].tags == ()


def test_plain_coco_with_captions(tmp_path: Path) -> None:
    plain = with_annotation(caption=None, extra_info=None, segmentation=None, category_id=3)
    lines = [
        {"annotation_id": 7, "caption": "A red ball."},
        {"annotation_id": 7, "caption": "something", "tags": ["traffic light"]},
    ]
    table, _ = read(tmp_path, plain, lines)
    assert [(region.caption, region.tags) for region in table] == [("a red ball", (0, 3)), ("something", (0, 2))]
    assert table[1].name == "line 2 of captions.jsonl (annotation 7) (a.png)"


def test_the_file_names_the_folder_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    document = {**DOCUMENT, "dataset": {"image_root": "photos"}}
    assert read(tmp_path, document, root=False)[0][0].image == str(tmp_path / "photos" / "a.png")


@pytest.mark.parametrize("dataset", [None, {}, {"image_root": 3}, {"image_root": "nowhere"}])
def test_no_folder_of_images(dataset: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--images"):
        read(tmp_path, {**DOCUMENT, "dataset": dataset}, root=False)


def tags(*indices: object) -> dict[str, Any]:
    return {"parser_result": {"tag_set1": list(indices)}}


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_id": 9}, "image_id 9"),
        ({"image_id": None}, "image_id None"),
        ({"image_id": [1]}, "image_id"),
        ({"caption": None}, "caption is missing or empty"),
        ({"caption": 5}, "caption is neither a text nor a list of texts"),
        ({"caption": []}, "caption is missing or empty"),
        ({"caption": ["a dog", 5]}, "caption is neither a text nor a list of texts"),
        ({"caption": " .!"}, "caption is missing or empty"),
        ({"bbox": None, "segmentation": [[1, 2, 3]]}, "pairs of x and y"),
        ({"bbox": None, "segmentation": [["1", "two"]]}, "segmentation is malformed"),
        ({"bbox": None, "segmentation": 7}, "segmentation is malformed"),
        ({"bbox": None, "segmentation": [[1, 2, float("nan"), 4]]}, "segmentation is malformed"),
        ({"bbox": None, "segmentation": {"size": [4, 5]}}, "segmentation is malformed"),
        ({"bbox": None, "segmentation": {}}, "neither a bbox nor a segmentation"),
        (
            {"bbox": None, "segmentation": {"size": [4, 5], "counts": [2**70]}},
            "segmentation holds a number beyond 64 bits",
        ),
        ({"bbox": None, "segmentation": {"size": [4, 5], "counts": [20]}}, "mask is empty"),
        ({"bbox": None, "segmentation": {"size": [4, 5], "counts": [5, 2]}}, "do not fill"),
        ({"bbox": None, "segmentation": {"size": [4, 5], "counts": "~"}}, "malformed"),
        ({"bbox": [1, 2, 0, 4], "segmentation": [[1, 2, 3]]}, "empty"),
        ({"segmentation": None, "bbox": None}, "neither a bbox nor a segmentation"),
        ({"segmentation": None, "bbox": [1, 2, 3]}, "bbox is not a list of four finite numbers"),
        ({"segmentation": None, "bbox": [1, 2, 0, 4]}, "empty"),
        ({"segmentation": None, "bbox": [1, 2, -3, 4]}, "inverted"),
        ({"segmentation": None, "bbox": [1, 2, True, 4]}, "bbox is not a list of four finite numbers"),
        ({"extra_info": tags(4)}, "tag index 4"),
        ({"extra_info": tags(-1)}, "tag index -1"),
        ({"extra_info": tags("dog")}, "tag index 'dog'"),
        ({"extra_info": tags(True)}, "tag index True"),
        ({"extra_info": {"parser_result": {"tag_set1": 3}}}, "not a list"),
        ({"extra_info": tags(nested(400))}, "tag index [[["),
        ({"caption": "a dog \ud83d"}, "caption holds half of a character (a lone surrogate)"),
    ],
)
def test_a_bad_annotation_is_named_with_its_reason(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(TooManyBadSamplesError) as caught:
        read(tmp_path, with_annotation(**changes))
    assert "annotation 7" in str(caught.value) and reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"file_name": 5}, "file_name is missing or not a text"),
        ({"width": "wide", "height": 70}, "listed width 'wide' is not a whole number of pixels"),
        ({"width": 80.5, "height": 70}, "listed width 80.5 is not a whole number of pixels"),
        ({"file_name": "a\ud83d.png"}, "file_name holds half of a character (a lone surrogate)"),
        ({"width": 2**31}, "listed width or height is above 2147483647 pixels"),
        ({"height": 10**30}, "listed width or height is above 2147483647 pixels"),
    ],
)
def test_an_image_that_cannot_be_listed(image: dict[str, Any], reason: str, tmp_path: Path) -> None:
    document = {**DOCUMENT, "images": [{**DOCUMENT["images"][0], **image}]}
    with pytest.raises(TooManyBadSamplesError) as caught:
        read(tmp_path, document)
    assert f"annotation 7: its image's {reason}" in str(caught.value)


def test_the_largest_size_is_kept(tmp_path: Path) -> None:
    side = 2**31 - 1
    document = {**DOCUMENT, "images": [{**DOCUMENT["images"][0], "width": side, "height": side}]}
    assert read(tmp_path, document)[0][0].listed_size == (side, side)


def many(bad: int) -> dict[str, Any]:
    """A hundred annotations, some of them without a caption."""
    annotations = [{**ANNOTATION, "id": number, "caption": "" if number < bad else "a dog"} for number in range(100)]
    return {**DOCUMENT, "annotations": annotations}


def test_one_in_a_hundred_is_skipped_and_two_are_too_many(tmp_path: Path) -> None:
    table, report = read(tmp_path, many(1))
    assert (len(table), report.total, list(report.found)) == (99, 100, ["annotation 0"])
    assert "1 of 100 samples" in report.summary() and "annotation 0: its caption" in report.summary()
    with pytest.raises(TooManyBadSamplesError, match="2 of the 100 samples .* more than 1%"):
        read(tmp_path, many(2))


def test_the_message_names_some_and_counts_the_rest(tmp_path: Path) -> None:
    with pytest.raises(TooManyBadSamplesError) as caught:
        read(tmp_path, many(30))
    shown = bad_samples._SHOWN
    assert str(caught.value).count("annotation ") == shown and f"and {30 - shown} more" in str(caught.value)


def test_a_table_keeps_its_records() -> None:
    regions = [
        Region("é", "a.png", (3, 4), (0.1, 0.2, 1e4 + 1 / 3, 5.0), "ein Hündchen", (2, 0)),
        Region("b", "b.png", None, (0.0, 0.0, 1.0, 1.0), "", ()),
        Region("c", "a.png", (3, 4), (1.0, 2.0, 3.0, 4.0), "dog", (1,)),
    ]
    assert list(RegionTable(regions)) == regions


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({"images": []}, "no list of annotations"),
        ({"images": {}, "annotations": []}, "no list of images"),
        ({"images": [], "annotations": []}, "no annotation to train on"),
        ({**DOCUMENT, "categories": 5}, "categories of .* are not a list"),
        ({**DOCUMENT, "categories": {"id": 3, "name": "dog"}}, "categories of .* are not a list"),
        ('{"images": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
    ],
)
def test_a_file_that_is_no_data_set(document: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, document)
    assert isinstance(caught.value, ModelError) and "train.json" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 5000, "not valid JSON"),
        ([1], "not a JSON object"),
        ({"annotation_id": 8, "caption": "a dog"}, "not in the annotations"),
        ({"annotation_id": [7], "caption": "a dog"}, "not in the annotations"),
        (
            {"annotation_id": "\ud83d", "caption": "a dog"},
            "(annotation \\ud83d): its annotation_id is not in",
        ),
        ({"annotation_id": 7}, "caption is missing"),
        ({"annotation_id": 7, "caption": "a dog", "tags": ["cow"]}, "tag 'cow' is not in the vocabulary"),
        ({"annotation_id": 7, "caption": "a dog", "tags": "dog"}, "not a list"),
    ],
)
def test_a_bad_line_of_captions(line: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(TooManyBadSamplesError, match="line 1 of captions.jsonl") as caught:
        read(tmp_path, with_annotation(extra_info=None), [line])
    assert reason in str(caught.value)


def test_annotations_that_are_no_objects(tmp_path: Path) -> None:
    with pytest.raises(TooManyBadSamplesError, match=r"annotations\[0\]: it is not an object"):
        read(tmp_path, {**DOCUMENT, "annotations": [None]})


@pytest.mark.parametrize("identifier", [7, None, [7], "\ud83d"])
def test_annotations_that_share_an_id_are_counted_each(identifier: object, tmp_path: Path) -> None:
    """A third of them is bad, so the run must stop."""
    annotations = [{**ANNOTATION, "id": identifier, "caption": "" if n % 3 else "a dog"} for n in range(150)]
    with pytest.raises(
        TooManyBadSamplesError, match=r"100 of the 150 samples .* annotations\[2\]: its caption"
    ) as caught:
        read(tmp_path, {**DOCUMENT, "annotations": annotations})
    str(caught.value).encode()


def test_a_line_ends_where_the_file_ends_it(tmp_path: Path) -> None:
    """Not at the separators of Unicode, which JSON allows inside of a text."""
    lines = [json.dumps({"annotation_id": 7, "caption": "a dog\u2028on\x85grass"}, ensure_ascii=False), "", ""]
    lines.append(json.dumps({"annotation_id": 7, "caption": "a ball"}))
    table, report = read(tmp_path, DOCUMENT, list(lines))
    assert report.found == {} and [region.caption for region in table] == ["a dog on grass", "a ball"]
    assert table[1].name.startswith("line 4 of captions.jsonl")


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\xff\xfe")])
def test_captions_that_cannot_be_read(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "captions.jsonl").write_text("")
    spoil(tmp_path / "captions.jsonl")
    source = AnnotationSource(tmp_path / "train.json", tmp_path, tmp_path / "captions.jsonl", BoxFormat.XYWH)
    with pytest.raises(DataError, match="captions.jsonl"):
        read_regions(source, VOCABULARY)
