"""One reader, two uses: training and evaluation get the same records of the same file, but for the rule for boxes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dynrefer.model.geometry import ImageSize
from dynrefer.model.types import Corners
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.annotations import AnnotationReader, AnnotationRecord, AnnotationSource, BoxRule
from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.data.labelled import read_labelled
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
    "an id that two images have": (
        {**DOCUMENT, "images": [*DOCUMENT["images"], {"id": 1, "file_name": "c.png"}]},
        None,
    ),
    "lines of captions": (
        without("caption"),
        [{"annotation_id": 7, "caption": "One."}, "", {"annotation_id": 7, "caption": "Two.", "tags": []}],
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[object, list[object] | None]] = {
    "float ids": (document(image_id=1.0), None),
    "an unknown image": (document(image_id=9), None),
    "an image without a file": (image(file_name=None), None),
    "a file name that no file has": (image(file_name="\ud83d.png"), None),
    "a listed size that is no number": (image(width="wide"), None),
    "one listed side that is no number": (image(width=None, height="high"), None),
    "a listed size of half a pixel": (image(width=160.5), None),
    "a listed size beyond any image": (image(width=2**31), None),
    "neither bbox nor segmentation": (document(bbox=None), None),
    "coordinates as texts": (document(bbox=["10", "10", "30", "40"]), None),
    "a coordinate that is not a number": (document(bbox=[10, 10, float("nan"), 40]), None),
    "three numbers": (document(bbox=[10, 10, 30], segmentation=POLYGON), None),
    "a flat box": (document(bbox=[10, 10, 30, 0]), None),
    "an inverted box": (document(bbox=[10, 10, -30, 40]), None),
    "a flat list as segmentation": (document(segmentation=[20, 20, 60, 20, 60, 90]), None),
    "an empty object as segmentation": (document(segmentation={}), None),
    "an odd polygon": (document(bbox=None, segmentation=[[1, 2, 3]]), None),
    "run lengths that do not fill the mask": (official(segmentation={"size": [4, 5], "counts": [5, 2]}), None),
    "a run length beyond 64 bits": (official(segmentation={"size": [4, 5], "counts": [2**70]}), None),
    "an extra_info that is no object": (document(extra_info=[1]), None),
    "a result without a category": (document(extra_info={"coco_result": {}}), None),
    "a caption that is a number": (document(caption=5), None),
    "a caption of half a character": (document(caption="it \ud83d"), None),
    "an annotation that is no object": ({**DOCUMENT, "annotations": [5]}, None),
    "categories that are no list": ({**DOCUMENT, "categories": None}, None),
    "a byte-order mark": ("\ufeff" + json.dumps(DOCUMENT), None),
    "a line that is not JSON": (DOCUMENT, ["{"]),
    "a line that is no object": (DOCUMENT, [[1]]),
    "a line of no annotation": (DOCUMENT, [{"annotation_id": 9, "caption": "it"}]),
    "a line of no caption": (DOCUMENT, [{"annotation_id": 7, "caption": " . "}]),
    "a line whose tags are no list": (DOCUMENT, [{"annotation_id": 7, "caption": "it", "tags": "dog"}]),
    "a line of two annotations": (document(id=8), [{"annotation_id": 8, "caption": "it"}]),
}


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
    assert detail in sentence or name == "a line of two annotations"  # evaluation refuses the two before their line
    assert "\n" not in sentence


# What evaluation needs beyond the record, and what training does: the other use takes these files.
EVALUATION_ALONE_REFUSES: dict[str, tuple[object, str]] = {
    "no id": (without("id"), r"annotations\[0\]: it needs an id"),
    "an id that two annotations have": (document(id=8), r"annotation 8 at annotations\[1\]: this id is given twice"),
    "a category that is not listed": (document(category_id=9), "its category 9 is not among the file's categories"),
    "a category's id that is a text": (
        {**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": "x", "name": "cow"}]},
        "category 'cow' has the id 'x'; use whole numbers",
    ),
    "categories of one name": (
        {**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 3, "name": "dog"}]},
        "category 'dog' .* repeats an id or a name",
    ),
    "a nameless category": ({**DOCUMENT, "categories": [*DOCUMENT["categories"], {"id": 3}]}, r"categories\[2\]"),
    "attributes that are not named": (document(att_vec=[1]), "att_vec holds 1 values"),
    "null in place of a label": (document(iscrowd=None), "annotation 7: iscrowd"),
}  # fmt: skip


@pytest.mark.parametrize("name", EVALUATION_ALONE_REFUSES)
def test_what_evaluation_needs_more(name: str, tmp_path: Path) -> None:
    content, sentence = EVALUATION_ALONE_REFUSES[name]
    source = written(tmp_path, content)
    assert isinstance(trained_on(source), list)
    with pytest.raises(DataError, match=sentence):
        read_labelled(source.file)


@pytest.mark.parametrize("caption", ["", ["It runs.", "It sits."]])
def test_training_needs_one_caption(caption: object, tmp_path: Path) -> None:
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
        (document(segmentation=POLYGON, bbox=None), BoxRule.BBOX, (20, 20, 60, 90)),
        (document(), BoxRule.SEGMENTATION, (10, 10, 40, 50)),
        (official(segmentation=POLYGON), BoxRule.SEGMENTATION, (20, 20, 60, 90)),
        (official(segmentation=POLYGON), BoxRule.BBOX, (20, 20, 60, 90)),
        (official(), BoxRule.SEGMENTATION, (10, 10, 30, 40)),
        (official(), BoxRule.BBOX, (10, 10, 30, 40)),
    ],
)
def test_the_rule_for_boxes(content: object, rule: BoxRule, box: Corners, tmp_path: Path) -> None:
    reader = AnnotationReader(written(tmp_path, content), box_rule=rule)
    assert next(reader.annotations(lambda record: record.box)) == box


def test_training_and_evaluation_state_their_rule(tmp_path: Path) -> None:
    source = written(tmp_path, document(segmentation=POLYGON))
    trained, evaluated = trained_on(source), evaluated_on(source)
    assert isinstance(trained, list) and isinstance(evaluated, list)
    assert (trained[0].box, evaluated[0].box) == ((20, 20, 60, 90), (10, 10, 40, 50))
    assert trained[1:] == evaluated[1:]


def test_a_bad_record_ends_the_reading_or_is_reported(tmp_path: Path) -> None:
    source = written(tmp_path, document(bbox=[1, 2, 0, 4]))
    strict = AnnotationReader(source, box_rule=BoxRule.BBOX)
    with pytest.raises(DataError, match=r"^data.json, annotation 7: The box .* is empty.*\.$"):
        list(strict.annotations(lambda record: record.id))
    report = BadSampleReport("data.json", 0)
    lenient = AnnotationReader(source, box_rule=BoxRule.BBOX, report=report)
    assert list(lenient.annotations(lambda record: record.id)) == [8]
    assert report.total == 2 and list(report.found) == ["annotation 7"]


def test_a_record(tmp_path: Path) -> None:
    def whole(record: AnnotationRecord) -> AnnotationRecord:
        return record

    source = written(tmp_path, DOCUMENT, [{"annotation_id": 8, "caption": "Two.", "tags": ["cat"]}])
    reader = AnnotationReader(source, box_rule=BoxRule.BBOX)
    first, second = reader.annotations(whole)
    (line,) = reader.caption_lines(whole)
    assert (first.name, first.id, first.image_id, first.image.size) == ("annotation 7", 7, 1, (160, 120))
    assert (first.captions, first.tags, first.category) == (("It runs.",), (), "dog")
    assert line.name == "line 1 of captions.jsonl (annotation 8)"
    assert (line.captions, line.tags, line.box, line.image) == (("Two.",), ("cat",), second.box, second.image)
