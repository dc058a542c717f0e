"""Files that are no annotations, lines that are no captions, and a name of its own for every sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.errors import ModelError
from dynrefer.workbench.data.region_table_reader import AnnotationSource, read_regions
from dynrefer.workbench.errors import DataError, TooManyBadSamplesError
from tests.workbench.data.test_region_table_reader import ANNOTATION, DOCUMENT, VOCABULARY, read, with_annotation


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
        ("{", "not JSON"),
        ("[" * 5000, "not JSON"),
        ([1], "not in the annotations"),
        ({"annotation_id": 8, "caption": "a dog"}, "not in the annotations"),
        ({"annotation_id": [7], "caption": "a dog"}, "not in the annotations"),
        ({"annotation_id": "\ud83d", "caption": "a dog"}, "(annotation \\ud83d): it is not JSON or its annotation_id"),
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
    table, tally = read(tmp_path, DOCUMENT, list(lines))
    assert tally.found == {} and [region.caption for region in table] == ["a dog on grass", "a ball"]
    assert table[1].name.startswith("line 4 of captions.jsonl")


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\xff\xfe")])
def test_captions_that_cannot_be_read(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "captions.jsonl").write_text("")
    spoil(tmp_path / "captions.jsonl")
    source = AnnotationSource(tmp_path / "train.json", tmp_path, tmp_path / "captions.jsonl", "xywh")
    with pytest.raises(DataError, match="captions.jsonl"):
        read_regions(source, VOCABULARY)
