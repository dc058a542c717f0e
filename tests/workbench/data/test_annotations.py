"""One reader, two uses: training and evaluation get the same records of the same file, but for the rule for boxes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dynrefer.model.geometry import ImageSize
from dynrefer.model.types import Corners, Task
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.annotations import AnnotationReader, AnnotationRecord, AnnotationSource, BoxRule
from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.data.labelled_files import read_labelled
from dynrefer.workbench.data.region_table import read_regions
from dynrefer.workbench.errors import DataError

# No caption below holds one of these words, so a sample's tags are its category.
VOCABULARY = Vocabulary(tags=("dog", "cat"), attributes=(), categories=("dog", "cat"))
POLYGON = [[20, 20, 60, 20, 60, 90]]
MASK = {"size": [120, 160], "counts": [1205, 30, 90, 30, 120 * 160 - 1205 - 30 - 90 - 30]}
DOCUMENT: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 160, "height": 120}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 40], "caption": "It runs."},
        {"id": 8, "image_id": 2, "category_id": 2, "bbox": [5, 5, 9, 9], "caption": "It sits!"},
    ],
}


class Seen(NamedTuple):
    """What a use makes of one region."""

    image: str
    size: ImageSize | None
    box: Corners
    caption: str
    category: str | None


def trained_on(source: AnnotationSource) -> list[Seen] | str:
    """The samples, or why one is bad."""
    try:
        table, report = read_regions(source, VOCABULARY)
    except DataError as error:
        return str(error)
    if report.found:
        return "; ".join(report.found.values())
    return [
        Seen(r.image, r.listed_size, r.box, r.caption, VOCABULARY.tags[r.tags[0]] if r.tags else None) for r in table
    ]


def evaluated_on(source: AnnotationSource) -> list[Seen] | str:
    """The regions, one for each of their captions, or why the file is refused."""
    try:
        data = read_labelled(source.file, source.images, box_format=source.box_format, captions=source.captions)
    except DataError as error:
        return str(error)
    return [
        Seen(str(data.images[r.image]), data.sizes.get(r.image), r.box, clean_caption(caption), r.category)
        for r in data.regions
        for caption in r.captions
    ]


def document(**changes: Any) -> dict[str, Any]:
    """The file with members of its first annotation changed."""
    found = copy.deepcopy(DOCUMENT)
    found["annotations"][0] |= changes
    return found


def image(**changes: Any) -> dict[str, Any]:
    """The file with members of its first image changed."""
    found = copy.deepcopy(DOCUMENT)
    found["images"][0] |= changes
    return found


def official(**changes: Any) -> dict[str, Any]:
    return document(extra_info={"coco_result": {"category": "cat"}}, **changes)


def without(name: str) -> dict[str, Any]:
    found = copy.deepcopy(DOCUMENT)
    del found["annotations"][0][name]
    return found


def written(folder: Path, content: object, lines: list[object] | None = None) -> AnnotationSource:
    file, captions = folder / "data.json", folder / "captions.jsonl"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    if lines is not None:
        captions.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return AnnotationSource(file, folder, None if lines is None else captions)


TAKEN: dict[str, tuple[object, list[object] | None]] = {
    "plain": (DOCUMENT, None),
    "ids that are texts": (
        {**DOCUMENT, "images": [{"id": "a", "file_name": "a.png"}], "annotations": [
            {"id": "x", "image_id": "a", "bbox": [1, 2, 3, 4], "caption": "it"}]},
        None,
    ),
    "listed sizes as floats": (image(width=160.0, height=120.0), None),
    "listed sizes as texts": (image(width="160", height="120"), None),
    "a listed side of zero": (image(width=0), None),
    "one listed side": (image(height=None), None),
    "no bbox": (document(bbox=None, segmentation=POLYGON), None),
    "an empty segmentation": (document(segmentation=[]), None),
    "a mask": (document(bbox=None, segmentation=MASK), None),
    "corners": (official(), None),
    "both in the official layout": (official(segmentation=POLYGON), None),
    "a mask and a bbox in the official layout": (official(segmentation=MASK), None),
    "an extra_info with nothing in it": (document(extra_info={}), None),
    "no category": (without("category_id"), None),
    "float ids": (
        {**document(id=7.0, image_id=1.0, category_id=2.0), "categories": [{"id": 2.0, "name": "cat"}]},
        None,
    ),
    "ids that are texts in one place": (document(id="7", image_id="1", category_id="2.0"), None),
    "ids of categories that are texts": (
        {**document(category_id="d"), "categories": [{"id": "d", "name": "dog"}, {"id": 2, "name": "cat"}]},
        None,
    ),
    "no id": (without("id"), None),
    "ids that are none": (
        {**DOCUMENT, "annotations": [
            {**DOCUMENT["annotations"][0], "id": identifier} for identifier in (float("nan"), 7.5, True, [7], "")]},
        None,
    ),
    "a list of captions": (document(caption=["It runs.", "It is fast."]), None),
    "null in place of what may be left out": (
        {**document(category_id=None, iscrowd=None, segmentation=None, extra_info=None, att_vec=None), "attrs": None,
         "dataset": None},
        None,
    ),
    "no categories": ({**without("category_id"), "categories": None, "annotations": [
        {"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "caption": "it"}]}, None),
    "an image without a file that nothing refers to": (
        {**DOCUMENT, "images": [*DOCUMENT["images"], {"id": 3}, {"file_name": "c.png"}, 5]},
        None,
    ),
    "coordinates as texts": (document(bbox=["10", "10.5", " 30 ", "4e1"]), None),
    "a flat list as segmentation": (document(bbox=None, segmentation=[20, 20, 60, 20, 60, 90]), None),
    "points as segmentation": (document(bbox=None, segmentation=[[[20, 20], [60, 20], [60, 90]]]), None),
    "a mask of one column": (
        document(bbox=None, segmentation={"size": [120, 160], "counts": [2405, 30, 120 * 160 - 2435]}),
        None,
    ),
    "a segmentation without a polygon": (document(segmentation=[[]]), None),
    "an empty object as segmentation": (document(segmentation={}), None),
    "a segmentation of nothing": (document(segmentation="none"), None),
    "an odd polygon beside a bbox": (document(segmentation=[[1, 2, 3]]), None),
    "a polygon that is not finite beside a bbox": (document(segmentation=[[1, 2, float("nan"), 3]]), None),
    "run lengths that do not fill the mask": (official(segmentation={"size": [4, 5], "counts": [5, 2]}), None),
    "a run length beyond 64 bits": (official(segmentation={"size": [4, 5], "counts": [2**70]}), None),
    "a mask without rows": (document(segmentation={"size": [0, 5], "counts": [0]}), None),
    "an empty bbox": (document(bbox=[], segmentation=POLYGON), None),
    "a byte order mark": ("\ufeff" + json.dumps(DOCUMENT), ['\ufeff{"annotation_id": 7, "caption": "One."}']),
    "joined files of captions": (
        without("caption"),
        ['{"annotation_id": 7, "caption": "One."}', '\ufeff{"annotation_id": 8, "caption": ["Two.", "Three."]}'],
    ),
    "lines of captions": (
        without("caption"),
        [{"annotation_id": 7, "caption": "One."}, "", {"annotation_id": 7, "caption": "Two.", "tags": []}],
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[object, list[object] | None]] = {
    "an image of half a number": (document(image_id=1.5), None),
    "an image that is true": (document(image_id=True), None),
    "two images of one id": (
        {**DOCUMENT, "images": [*DOCUMENT["images"], {"id": 1.0, "file_name": "c.png"}]},
        None,
    ),
    "a negative listed size": (image(width=-160), None),
    "a listed size that is true": (image(width=True), None),
    "a listed size that is not finite": (image(width=float("inf")), None),
    "an unknown image": (document(image_id=9), None),
    "an image without a file": (image(file_name=None), None),
    "a file name that no file has": (image(file_name="\ud83d.png"), None),
    "a listed size that is no number": (image(width="wide"), None),
    "one listed side that is no number": (image(width=None, height="high"), None),
    "a listed size of half a pixel": (image(width=160.5), None),
    "a listed size beyond any image": (image(width=2**31), None),
    "neither bbox nor segmentation": (document(bbox=None), None),
    "a coordinate with a comma": (document(bbox=["10,5", "10", "30", "40"]), None),
    "a coordinate that is true": (document(bbox=[True, 10, 30, 40]), None),
    "a coordinate that is named": (document(bbox=["nan", "10", "30", "40"]), None),
    "a coordinate that is not a number": (document(bbox=[10, 10, float("nan"), 40]), None),
    "three numbers": (document(bbox=[10, 10, 30], segmentation=POLYGON), None),
    "a flat box": (document(bbox=[10, 10, 30, 0]), None),
    "an inverted box": (document(bbox=[10, 10, -30, 40]), None),
    "an odd polygon": (document(bbox=None, segmentation=[[1, 2, 3]]), None),
    "an empty mask": (official(bbox=None, segmentation={"size": [4, 5], "counts": [20]}), None),
    "a run length beyond 64 bits alone": (
        document(bbox=None, segmentation={"size": [4, 5], "counts": [2**70]}),
        None,
    ),
    "an extra_info that is no object": (document(extra_info=[1]), None),
    "a result without a category": (document(extra_info={"coco_result": {}}), None),
    "a caption that is a number": (document(caption=5), None),
    "a caption of half a character": (document(caption="it \ud83d"), None),
    "an annotation that is no object": ({**DOCUMENT, "annotations": [5]}, None),
    "categories that are no list": ({**DOCUMENT, "categories": {}}, None),
    "two categories of one id": (
        {**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 1, "name": "cow"}]},
        None,
    ),
    "null among the captions": (document(caption=["it", None]), None),
    "a line that is not JSON": (DOCUMENT, ["{"]),
    "a line that is no object": (DOCUMENT, [[1]]),
    "a line of no annotation": (DOCUMENT, [{"annotation_id": 9, "caption": "it"}]),
    "a line of no caption": (DOCUMENT, [{"annotation_id": 7, "caption": " . "}]),
    "a line whose tags are no list": (DOCUMENT, [{"annotation_id": 7, "caption": "it", "tags": "dog"}]),
    "a line of two annotations": (document(id=8), [{"annotation_id": 8, "caption": "it"}]),
}


# Evaluation refuses these as a whole: predictions and scores name annotations and categories.
REFUSED_SOONER = ("a line of two annotations", "two categories of one id")


@pytest.mark.parametrize("name", TAKEN)
def test_both_uses_see_the_same(name: str, tmp_path: Path) -> None:
    source = written(tmp_path, *TAKEN[name])
    seen = trained_on(source)
    assert isinstance(seen, list) and seen and seen == evaluated_on(source)


@pytest.mark.parametrize("name", REFUSED)
def test_both_uses_refuse_the_same(name: str, tmp_path: Path) -> None:
    """Training by a bad sample or as a whole; for one reason."""
    source = written(tmp_path, *REFUSED[name])
    reason, sentence = trained_on(source), evaluated_on(source)
    assert isinstance(reason, str) and isinstance(sentence, str)
    detail = reason.removesuffix(".").removeprefix("its image's ")
    assert detail in sentence or name in REFUSED_SOONER
    assert "\n" not in sentence


# What evaluation needs beyond the record, and what training does: the other use takes these files.
EVALUATION_ALONE_REFUSES: dict[str, tuple[object, str]] = {
    "an id that two annotations have": (document(id=8), "data.json: the id of annotation 8 is given twice"),
    "a category that is not listed": (document(category_id=9), "its category 9 is not among the file's categories"),
    "categories of one name": (
        {**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 3, "name": "dog"}]},
        "category 'dog' .* repeats an id or a name",
    ),
    "a nameless category": ({**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 3}]}, r"categories\[2\]"),
    "attributes that are not named": (document(att_vec=[1]), "att_vec holds 1 values"),
    "a crowd of 2": (document(iscrowd=2), "annotation 7: its iscrowd 2 is neither 0 nor 1"),
    "a score that is not finite": (document(score=float("nan")), "annotation 7: its score nan is not a finite number"),
    "attributes that are no list": ({**DOCUMENT, "attrs": {}, "attributes": 5}, "attributes is not a list"),
    "a nameless attribute": ({**DOCUMENT, "attrs": [{"id": 1}]}, r"attrs\[0\] needs a name"),
    "an attribute without an id": ({**DOCUMENT, "attrs": [{"name": "x"}]}, r"attrs\[0\] \(x\) needs an id"),
}  # fmt: skip


@pytest.mark.parametrize("name", EVALUATION_ALONE_REFUSES)
def test_what_evaluation_needs_more(name: str, tmp_path: Path) -> None:
    content, sentence = EVALUATION_ALONE_REFUSES[name]
    source = written(tmp_path, content)
    assert isinstance(trained_on(source), list)
    with pytest.raises(DataError, match=sentence):
        read_labelled(source.file)


# What evaluation needs for its own task alone: each is refused for one task and taken for another.
FOR_A_TASK: dict[str, tuple[object, Task]] = {
    "a category that is not listed": (document(category_id=9), Task.CATEGORIES),
    "no list of categories": ({**DOCUMENT, "categories": None}, Task.CATEGORIES),
    "categories of one name": (
        {**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 3, "name": "dog"}]},
        Task.CATEGORIES,
    ),
    "categories that are no list": ({**DOCUMENT, "categories": 5}, Task.CATEGORIES),
    "a nameless category": ({**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 3}]}, Task.CATEGORIES),
    "a result without a category": (document(extra_info={"coco_result": {}}), Task.CATEGORIES),
    "a crowd of 2": (document(iscrowd=2), Task.CATEGORIES),
    "attributes that are not named": (document(att_vec=[1]), Task.ATTRIBUTES),
    "attributes that are no list": ({**DOCUMENT, "attrs": 5}, Task.ATTRIBUTES),
    "a score that is no number": (document(score="high"), Task.CAPTION),
}


@pytest.mark.parametrize("name", FOR_A_TASK)
def test_only_what_the_task_needs_is_read(name: str, tmp_path: Path) -> None:
    content, needed = FOR_A_TASK[name]
    source = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_labelled(source.file, task=needed)
    assert "\n" not in str(caught.value) and "input should" not in str(caught.value)
    for task in {Task.CAPTION, Task.ATTRIBUTES, Task.CATEGORIES} - {needed}:
        assert len(read_labelled(source.file, task=task)) == 2


@pytest.mark.parametrize("caption", ["", None])
def test_training_needs_a_caption(caption: object, tmp_path: Path) -> None:
    source = written(tmp_path, document(caption=caption))
    reason = trained_on(source)
    assert isinstance(reason, str) and "caption" in reason
    assert isinstance(evaluated_on(source), list)


@pytest.mark.parametrize(
    ("content", "rule", "box"),
    [
        (document(segmentation=POLYGON), BoxRule.SEGMENTATION, (20, 20, 60, 90)),
        (document(segmentation=POLYGON), BoxRule.BBOX, (10, 10, 40, 50)),
        (document(segmentation=[[]]), BoxRule.BBOX, (10, 10, 40, 50)),
        (document(segmentation=[[1, 2, 3]]), BoxRule.SEGMENTATION, (10, 10, 40, 50)),
        (
            document(segmentation={"size": [120, 160], "counts": [2405, 30, 16765]}),
            BoxRule.SEGMENTATION,
            (20, 5, 21, 34),
        ),
        (document(bbox=[10, 10, 5, 0], segmentation=[[10, 10, 15, 10]]), BoxRule.SEGMENTATION, (10, 9, 15, 10)),
        (official(segmentation={}), BoxRule.BBOX, (10, 10, 30, 40)),
        (document(segmentation=POLYGON, bbox=None), BoxRule.BBOX, (20, 20, 60, 90)),
        (document(), BoxRule.SEGMENTATION, (10, 10, 40, 50)),
        (official(segmentation=POLYGON), BoxRule.SEGMENTATION, (20, 20, 60, 90)),
        (official(segmentation=POLYGON), BoxRule.BBOX, (20, 20, 60, 90)),
        (official(), BoxRule.SEGMENTATION, (10, 10, 30, 40)),
        (official(), BoxRule.BBOX, (10, 10, 30, 40)),
    ],
)
def test_the_rule_for_boxes(content: object, rule: BoxRule, box: Corners, tmp_path: Path) -> None:
    reader = AnnotationReader(written(tmp_path, content), BadSampleReport("data.json", 0), box_rule=rule)
    assert next(reader.annotations(lambda record: record.box)) == box


def test_training_and_evaluation_state_their_rule(tmp_path: Path) -> None:
    source = written(tmp_path, document(segmentation=POLYGON))
    trained, evaluated = trained_on(source), evaluated_on(source)
    assert isinstance(trained, list) and isinstance(evaluated, list)
    assert (trained[0].box, evaluated[0].box) == ((20, 20, 60, 90), (10, 10, 40, 50))
    assert trained[1:] == evaluated[1:]


def test_a_bad_record_is_reported(tmp_path: Path) -> None:
    report = BadSampleReport("data.json", 0)
    reader = AnnotationReader(written(tmp_path, document(bbox=[1, 2, 0, 4])), report, box_rule=BoxRule.BBOX)
    assert list(reader.annotations(lambda record: record.id)) == [8]
    assert report.total == 2 and list(report.found) == ["annotation 7"]


def test_two_images_of_one_id_are_named(tmp_path: Path) -> None:
    """Files that were merged without renumbering: no annotation of the file can be trusted."""
    twice = {**DOCUMENT, "images": [*DOCUMENT["images"], {"id": "1", "file_name": "c.png"}]}
    for seen in (trained_on, evaluated_on):
        assert re.search(
            r"data\.json: images\[0\] and images\[2\] both have the id 1; renumber", str(seen(written(tmp_path, twice)))
        )


def test_a_line_of_two_annotations_is_nobodys(tmp_path: Path) -> None:
    content = {
        **DOCUMENT,
        "annotations": [*document(id=8)["annotations"], {"id": 9, "image_id": 1, "bbox": [1, 1, 5, 5]}],
    }
    lines: list[object] = [{"annotation_id": 8, "caption": "it"}, {"annotation_id": 9, "caption": "it"}]
    table, report = read_regions(written(tmp_path, content, lines), VOCABULARY)
    assert len(table) == 1 and table[0].box == (1, 1, 6, 6)
    assert report.found == {
        "line 1 of captions.jsonl (annotation 8)": "its annotation_id is that of several annotations"
    }


def test_a_caption_of_a_list_is_a_sample(tmp_path: Path) -> None:
    source = written(tmp_path, document(caption=["It runs.", " ", "It is fast."]))
    table, report = read_regions(source, VOCABULARY)
    assert [region.caption for region in table] == ["it runs", "it is fast", "it sits"]
    assert [region.name for region in table][:2] == [
        "annotation 7, caption 1 (a.png)",
        "annotation 7, caption 3 (a.png)",
    ]
    assert report.total == 4 and list(report.found) == ["annotation 7, caption 2"]


def test_a_record(tmp_path: Path) -> None:
    def whole(record: AnnotationRecord) -> AnnotationRecord:
        return record

    source = written(tmp_path, DOCUMENT, [{"annotation_id": 8, "caption": "Two.", "tags": ["cat"]}])
    reader = AnnotationReader(source, BadSampleReport("data.json", 0), box_rule=BoxRule.BBOX)
    first, second = reader.annotations(whole)
    (line,) = reader.caption_lines(whole)
    assert (first.name, first.id, first.image_id, first.image.size) == ("annotation 7", 7, 1, (160, 120))
    assert (first.captions, first.tags, first.category) == (("It runs.",), (), "dog")
    assert line.name == "line 1 of captions.jsonl (annotation 8)"
    assert (line.captions, line.tags, line.box, line.image) == (("Two.",), ("cat",), second.box, second.image)
