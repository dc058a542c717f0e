"""Evaluation's view of annotation files: both layouts give the same regions; every error is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.geometry import BoxFormat
from dynrefer.workbench.data.labelled import captioned, with_attributes, with_categories
from dynrefer.workbench.data.labelled_files import read_labelled, read_proposals
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.data import labelled_for

PLAIN: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 18, "name": "dog"}],
    "attributes": [{"id": 1, "name": "size:small", "freq_set": "tail"}, {"id": 0, "name": "color:red"}],
    "annotations": [
        {"id": 5, "image_id": 2, "bbox": [10, 20, 30, 40], "caption": "a dog", "category_id": 18, "att_vec": [1, -1]},
        {"id": 6, "image_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1, "category_id": 18},
        {"id": 7, "image_id": 2, "bbox": [10, 20, 30, 40], "caption": "the dog"},
    ],
}
OFFICIAL: dict[str, Any] = {
    "dataset": {"image_root": "photos"},
    "images": [{"id": 1, "file_name": "a.png"}],
    "attrs": [{"id": 0, "name": "color:red"}],
    "annotations": [
        {
            "id": 5,
            "image_id": 1,
            "bbox": [10, 20, 40, 60],
            "segmentation": [[10.5, 20, 40, 20, 40, 60.25]],
            "caption": "a dog",
            "extra_info": {"ovad_result": {"att_vec": [0]}, "coco_result": {"category": "dog"}},
        },
        {
            "id": 6,
            "image_id": 1,
            "segmentation": {"size": [4, 4], "counts": [5, 2, 2, 2, 5]},
            "extra_info": {"grit_result": {"score": 0.5}},
        },
        {"id": 7, "image_id": 1, "bbox": [10, 20, 40, 60], "extra_info": {}},
    ],
}


def _write(folder: Path, data: object, name: str = "data.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(data))
    return path


def test_plain_coco(tmp_path: Path) -> None:
    data = read_labelled(_write(tmp_path, PLAIN))
    assert [region.id for region in data.regions] == [5, 7, 6]  # those of one image side by side
    assert data.regions[0].box == (10, 20, 40, 60) and data.images[1] == tmp_path / "a.png"
    assert data.attributes == ("color:red", "size:small") and data.groups == {"size:small": "tail"}
    assert with_attributes(data).attribute_targets.tolist() == [[1, -1]]
    assert [region.id for region in with_categories(data).regions] == [5]  # no crowds
    (merged,) = captioned(data).regions
    assert merged.captions == ("a dog", "the dog") and merged.aliases == (7,)
    assert read_labelled(_write(tmp_path, PLAIN), tmp_path / "elsewhere").images[1] == tmp_path / "elsewhere" / "a.png"


def test_the_official_layout(tmp_path: Path) -> None:
    data = read_labelled(_write(tmp_path, OFFICIAL))
    assert [region.box for region in data.regions] == [(10.5, 20, 40, 60.25), (1, 1, 2, 2), (10, 20, 40, 60)]
    assert data.images[1] == tmp_path / "photos" / "a.png"
    assert data.categories == {"dog": 1} and data.regions[0].attributes == (0,) and data.regions[1].score == 0.5


@pytest.mark.parametrize(
    ("extra_info", "box_format", "box"),
    [
        (None, None, (10, 5, 40, 25)),
        ({"parser_result": {}}, None, (10, 5, 30, 20)),  # the official project writes corners into all its files
        (None, BoxFormat.XYXY, (10, 5, 30, 20)),
        ({"parser_result": {}}, BoxFormat.XYWH, (10, 5, 40, 25)),
    ],
)
def test_what_a_bbox_means(tmp_path: Path, extra_info: object, box_format: BoxFormat | None, box: object) -> None:
    path = _write(tmp_path, _changed(bbox=[10, 5, 30, 20], extra_info=extra_info))
    (region,) = read_labelled(path, box_format=box_format).regions
    assert region.box == box


def _caption_lines(folder: Path, *lines: object) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_captions_in_a_file_of_their_own(tmp_path: Path) -> None:
    lines = _caption_lines(
        tmp_path,
        {"annotation_id": 6, "caption": "a cat"},
        {"annotation_id": 5, "caption": "a red dog", "tags": ["dog"]},
        "",
        {"annotation_id": 6, "caption": "the cat"},
    )
    data = captioned(read_labelled(_write(tmp_path, PLAIN), captions=lines))
    assert [(region.id, region.captions) for region in data.regions] == [(5, ("a red dog",)), (6, ("a cat", "the cat"))]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            {"annotation_id": 9, "caption": "x"},
            r"line 1 of captions.jsonl \(annotation 9\): its annotation_id is not in",
        ),
        (
            {"annotation_id": 5, "caption": " . "},
            r"\(annotation 5\): its caption is missing or empty; write one, or leave the line out",
        ),
        ({"annotation_id": 5}, r"line 1 of captions.jsonl \(annotation 5\): its caption is missing or empty"),
        ("{", "line 1 of captions.jsonl: it is not valid JSON"),
    ],
)
def test_mistakes_in_captions_are_named(tmp_path: Path, line: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_labelled(_write(tmp_path, PLAIN), captions=_caption_lines(tmp_path, line))


@pytest.mark.parametrize("caption", ["", " ", "...", ["a dog", ""]])
def test_a_blank_caption_is_no_reference(tmp_path: Path, caption: object) -> None:
    data = read_labelled(_write(tmp_path, _changed(caption=caption)))
    with pytest.raises(DataError, match=r"annotation 5 \(b.png\): its caption is blank; write one, or leave"):
        captioned(data)
    assert len(with_categories(data)) == 1  # who asks for categories need not care
    assert len(labelled_for(Benchmark.DENSE_CAPTIONS, data)) == 1  # its box is there to be found


def test_a_sample_is_whole_images_and_always_the_same(tmp_path: Path) -> None:
    data = read_labelled(_write(tmp_path, PLAIN))
    assert len(data.sample(3)) == 3 and data.sample(1).regions == data.sample(1).regions
    assert len(data.sample(1)) in (1, 2)


def _changed(**changes: Any) -> dict[str, Any]:
    first = {**PLAIN["annotations"][0], **changes}
    return {**PLAIN, "annotations": [first]}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (_changed(image_id=9), "data.json cannot be read, .*: annotation 5: its image_id 9 is not among the images"),
        (_changed(category_id=9), "category 9 is not among"),
        (_changed(att_vec=[1]), "holds 1 values but the file names 2 attributes"),
        (_changed(att_vec=[1, 2]), "may hold 1 .present., 0 .absent. and -1"),
        (_changed(bbox=[1, 2, 0, 4]), "annotation 5: The box .* is empty"),
        (_changed(bbox=None), "neither a bbox nor a segmentation"),
        (_changed(bbox=[1, 2, 3]), "annotation 5: its bbox is not a list of four finite numbers"),
        (_changed(bbox=None, segmentation=[[1, 2, 3]]), "annotation 5: A polygon needs"),
        (
            {**PLAIN, "annotations": PLAIN["annotations"][:1] * 2},
            "data.json: the id of annotation 5 is given twice",
        ),
        (
            _changed(bbox=None, segmentation={"size": [4, 4], "counts": [2**70]}),
            "annotation 5: its segmentation holds a number beyond 64 bits",
        ),
        (
            {**PLAIN, "categories": [*PLAIN["categories"], {"id": 19, "name": "dog"}]},
            r"data.json: category 'dog' \(id 19\) repeats an id or a name",
        ),
        (
            {**PLAIN, "attributes": [*PLAIN["attributes"], {"id": 2, "name": "color:red"}]},
            r"data.json: attribute 'color:red' \(id 2\) repeats an id or a name",
        ),
        ({**PLAIN, "annotations": []}, "has no region with a box"),
        ({"images": []}, "data.json has no list of annotations"),
        ([], "data.json is not a JSON object"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, data: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read_labelled(_write(tmp_path, data))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read .*no.json: No such file"):
        read_labelled(tmp_path / "no.json")
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(DataError, match="half.json is not valid JSON"):
        read_labelled(tmp_path / "half.json")
    (tmp_path / "wide.json").write_text(json.dumps(PLAIN), encoding="utf-16")
    with pytest.raises(DataError, match="wide.json is UTF-16 text; save it as UTF-8"):
        read_labelled(tmp_path / "wide.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="deep.json is nested too deeply"):
        read_labelled(tmp_path / "deep.json")
    with pytest.raises(DataError, match="no file .*b.png; name the folder of the images with --images"):
        read_labelled(_write(tmp_path, PLAIN)).check_images()


def test_data_without_the_truth_that_a_task_needs(tmp_path: Path) -> None:
    bare = read_labelled(_write(tmp_path, {**_changed(caption=[], category_id=None, att_vec=None)}))
    for select, missing in ((captioned, "a caption"), (with_attributes, "att_vec"), (with_categories, "a category")):
        with pytest.raises(DataError, match=f"has no region with .*{missing}"):
            select(bare)
    nameless = read_labelled(_write(tmp_path, {**_changed(att_vec=None), "attributes": []}))
    with pytest.raises(DataError, match="names no attributes"):
        with_attributes(nameless)


def test_proposals(tmp_path: Path) -> None:
    data = read_labelled(_write(tmp_path, PLAIN))
    listed = [{"image_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (found,) = read_proposals(_write(tmp_path, listed, "boxes.json"), data).regions
    assert (found.image, found.box, found.score) == (2, (1, 2, 4, 6), 0.5)
    with pytest.raises(DataError, match="image 9 is not among the images of data.json"):
        read_proposals(_write(tmp_path, [{**listed[0], "image_id": 9}], "boxes.json"), data)
    with pytest.raises(
        DataError, match="boxes.json cannot be read, .*: entry 0: it needs an image_id, a bbox and a score"
    ):
        read_proposals(_write(tmp_path, [{"image_id": 2, "bbox": [1, 2, 3, 4]}], "boxes.json"), data)
    with pytest.raises(DataError, match="a box without a score"):
        read_proposals(_write(tmp_path, PLAIN, "boxes.json"), data)
