"""Saved predictions: read as written, matched by region, and every error named in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dynrefer.model.types import Caption, RegionDescription, Task
from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.inference import QueryResults
from dynrefer.workbench.evaluation.predictions import (
    Prediction,
    SavedCaption,
    captions_for,
    dense_captions_for,
    named_categories,
    predictions_from,
    read_predictions,
    results_for,
    skipped_from,
    without_skipped,
    write_predictions,
)

DATA = LabelledData(
    "data.json",
    {1: Path("a.png"), 2: Path("b.png")},
    (
        LabelledRegion(5, 1, (0, 0, 9, 9), ("a dog",), "dog", aliases=(8,)),
        LabelledRegion(6, 2, (1, 1, 9, 9), ("a cat",), "cat"),
    ),
    categories={"dog": 1, "cat": 2},
)
LABELS = [{"name": "cat", "score": 2.5, "probability": 0.75}, {"name": "dog", "score": 1.0}]
FIRST = {"region": 8, "image": 1, "caption": "a dog", "categories": LABELS, "score": 0.5}
SECOND = {
    "region": 6,
    "image": 2,
    "caption": {"text": "a cat", "score": 0.25},
    "categories": LABELS,
    "box": [1, 1, 9, 9],
}


def _file(folder: Path, *lines: object) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_they_are_matched_by_region_in_any_order(tmp_path: Path) -> None:
    found = read_predictions(_file(tmp_path, SECOND, "", FIRST))
    assert captions_for(DATA, found) == ["a dog", "a cat"]
    answers = results_for(DATA, found, Task.CATEGORIES)
    assert answers.scores[Task.CATEGORIES].tolist() == [[1.0, 2.5], [1.0, 2.5]]
    assert np.isnan(answers.probabilities[Task.CATEGORIES][:, 0]).all()
    assert answers.probabilities[Task.CATEGORIES][0, 1] == 0.75


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read_predictions(_file(tmp_path, FIRST, SECOND))
    write_predictions(tmp_path / "again.jsonl", found)
    assert read_predictions(tmp_path / "again.jsonl") == found
    with pytest.raises(DataError, match="cannot write"):
        write_predictions(tmp_path / "no" / "x.jsonl", found)


def test_a_saved_caption_has_the_score_that_the_service_gives_it() -> None:
    answers = QueryResults((Task.CAPTION,), DATA)
    for row in range(2):
        caption = Caption("a dog", score=0.25, logprob_sum=-3.0, logprob_mean=-0.5)
        answers.add(row, RegionDescription((0, 0, 9, 9), False, None, {}, {Task.CAPTION: caption}))
    saved = predictions_from(DATA, answers)
    assert [each.score for each in dense_captions_for(DATA, saved)] == [0.25, 0.25]


def test_the_categories_that_saved_predictions_name(tmp_path: Path) -> None:
    second = {**SECOND, "categories": [{"name": "elk", "score": 0.1}, *LABELS]}
    assert named_categories(read_predictions(_file(tmp_path, FIRST, second))) == ["cat", "dog", "elk"]


def test_dense_captions_take_box_and_score_from_where_they_are(tmp_path: Path) -> None:
    lines = [{**FIRST, "region": 5}, SECOND]
    found = dense_captions_for(DATA, read_predictions(_file(tmp_path, *lines)))
    assert [(each.region.box, each.score, each.text) for each in found] == [
        ((0, 0, 9, 9), 0.5, "a dog"),  # the data's box, the detector's score
        ((1, 1, 9, 9), 0.25, "a cat"),  # its own box, its caption's score
    ]
    for line, sentence in (
        ({"image": 1, "caption": "x"}, "has no box"),
        ({**FIRST, "image": 3}, "image 3 is not among"),
    ):
        with pytest.raises(DataError, match=sentence):
            dense_captions_for(DATA, read_predictions(_file(tmp_path, line)))
    with pytest.raises(DataError, match="has no score"):
        dense_captions_for(DATA, read_predictions(_file(tmp_path, {"image": 1, "caption": "x", "box": [0, 0, 1, 1]})))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ((), "holds no predictions"),
        ((FIRST, '{"region": 6,'), "p.jsonl, line 2 is not valid JSON"),
        ((FIRST, {"region": 6}), "p.jsonl, line 2: image is missing"),
        ((FIRST, ["region"]), "p.jsonl, line 2: it is not a JSON object"),
        (("[" * 100_000,), "p.jsonl, line 1 is nested too deeply"),
        ((FIRST,), "no prediction for region 6 of data.json"),
        ((FIRST, SECOND, {**SECOND, "image": 9}), "prediction 3: image 9 is not among the images of data.json"),
        ((FIRST, {**SECOND, "image": 1}), "region 6 says image 1, data.json 2"),
        ((FIRST, SECOND, SECOND), "region 6 is predicted twice"),
        ((FIRST, {"image": 2, "caption": "x"}), "prediction 2 names no region"),
        ((FIRST, {"image": 2, "region": 6}), "region 6 of image 2 has no caption; was it saved with another --task"),
    ],
)
def test_errors_are_named(tmp_path: Path, lines: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        captions_for(DATA, read_predictions(_file(tmp_path, *lines)))
    assert "\n" not in str(caught.value)


def changed(**members: object) -> dict[str, object]:
    return {**SECOND, **members}


def label(**members: object) -> dict[str, object]:
    return changed(categories=[LABELS[0], {**LABELS[1], **members}])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (label(score=float("nan")), r"categories\[1\].score nan is not a finite number"),
        (label(score=float("-inf")), r"categories\[1\].score -inf is not a finite number"),
        (label(score=True), r"categories\[1\].score True is not a number"),
        (label(score="high"), r"categories\[1\].score 'high' is not a number"),
        (label(score=None), r"categories\[1\].score is missing; it ranks 'dog'"),
        (label(probability=90), r"categories\[1\].probability 90 is not between 0 and 1"),
        (label(probability=-0.1), r"categories\[1\].probability -0.1 is not between"),
        (label(probability=float("nan")), r"categories\[1\].probability nan is not a finite number"),
        (label(name=5), r"categories\[1\].name 5 is not a text"),
        (label(name="cat"), r"categories\[1\] scores 'cat' a second time"),
        (changed(categories={"dog": 0.5}), "categories is not a list"),
        (changed(attributes=[5]), r"attributes\[0\] is not an object"),
        (changed(score=float("inf")), "score inf is not a finite number"),
        (changed(caption={"text": "a", "score": float("nan")}), "caption.score nan is not a finite number"),
        (changed(caption={"score": 1}), "caption.text None is not a text"),
        (changed(caption=5), "caption 5 is not a text"),
        (changed(box=[float("nan"), 0, 15, 15]), r"box .* is not \[x1, y1, x2, y2\] in finite numbers"),
        (changed(box=[0, 0, 15]), r"box \[0, 0, 15\] is not"),
        (changed(box={"x": 1}), "box .* is not"),
        (changed(box=[15, 15, 0, 0]), r"box \(15, 15, 0, 0\) is inverted"),
        (changed(box=[5, 5, 5, 9]), r"box \(5, 5, 5, 9\) is empty"),
        (changed(region=[6]), r"region \[6\] is neither a whole number nor a text"),
        (changed(image=None), "image is missing"),
    ],
)
def test_what_is_no_answer_of_a_model_is_refused_by_line(line: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"p.jsonl, line 2: {sentence}") as caught:
        read_predictions(_file(tmp_path, FIRST, line))
    assert "\n" not in str(caught.value)


def test_predictions_of_other_tools(tmp_path: Path) -> None:
    """Ids and numbers as tables write them, null, a byte order mark; broader words of the service are not scored."""
    second = {
        **SECOND,
        **{"region": 6.0, "image": "2", "score": None, "box": ["1", "1", "9.0", "9"], "attributes": None},
        "categories": [{"name": "cat", "score": 9, "level": "parent"}, *LABELS],
    }
    found = read_predictions(_file(tmp_path, "\ufeff" + json.dumps(FIRST), second))
    assert results_for(DATA, found, Task.CATEGORIES).scores[Task.CATEGORIES].tolist() == [[1.0, 2.5], [1.0, 2.5]]
    assert (found[1].region, found[1].image, found[1].box) == (6, 2, (1, 1, 9, 9))


def test_regions_that_were_left_out_stay_left_out(tmp_path: Path) -> None:
    many = tuple(replace(DATA.regions[0], id=number, aliases=()) for number in range(10, 110))
    data = replace(DATA, regions=many, skipped=BadSampleReport("data.json", 100))
    located = data.without({10: (1, "its image is damaged")})
    saved = tmp_path / "saved.jsonl"
    kept = [Prediction(image=1, region=region.id, caption=SavedCaption(text="a dog")) for region in located.regions]
    write_predictions(saved, [*kept, *skipped_from(located)])
    again, predictions = without_skipped(data, read_predictions(saved))
    assert again.regions == located.regions and len(captions_for(again, predictions)) == 99
    assert list(again.skipped.found.values()) == ["its image is damaged"]


def test_a_missing_label_is_named(tmp_path: Path) -> None:
    lines = [{**each, "categories": LABELS[:1]} for each in (FIRST, SECOND)]
    with pytest.raises(DataError, match="no score for 'dog' among its categories"):
        results_for(DATA, read_predictions(_file(tmp_path, *lines)), Task.CATEGORIES)
    with pytest.raises(DataError, match="cannot read"):
        read_predictions(tmp_path / "none.jsonl")
