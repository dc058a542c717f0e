"""Flickr30k Entities, by files as it has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.workbench.data.flickr_entities import EntityPhrase, parse_sentence, read_entities
from dynrefer.workbench.data.labelled_files import read_labelled
from dynrefer.workbench.errors import DataError

_SENTENCES = """\
[/EN#1/people Two men] with [/EN#2/clothing hats] see [/EN#3/animals a brown dog] [/EN#0/notvisual it] .
[/EN#3/animals/other The dog] looks .
"""
_XML = """<annotation>
<filename>7.jpg</filename><size><width>50</width><height>40</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>32</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>20</xmin><ymin>2</ymin><xmax>30</xmax><ymax>32</ymax></bndbox></object>
<object><name>3</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>25</xmax><ymax>36</ymax></bndbox></object>
<object><name>2</name><scene>0</scene><nobndbox>1</nobndbox></object>
</annotation>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Sentences").mkdir()
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Sentences" / "7.txt").write_text(_SENTENCES)
    (tmp_path / "Annotations" / "7.xml").write_text(_XML)
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "images" / "7.jpg")
    return tmp_path


def test_a_sentence_gives_its_phrases_with_their_characters() -> None:
    plain, phrases = parse_sentence(_SENTENCES.splitlines()[0], "")
    assert plain == "Two men with hats see a brown dog it ."
    assert phrases == (
        EntityPhrase("1", "Two men", 0, 7),
        EntityPhrase("2", "hats", 13, 17),
        EntityPhrase("3", "a brown dog", 22, 33),
    )
    assert all(plain[each.start : each.end] == each.text for each in phrases)


def test_every_box_is_an_annotation_with_what_it_is_called(folder: Path) -> None:
    document = read_entities(folder)
    assert [each["bbox"] for each in document["annotations"]] == [[1, 2, 10, 30], [20, 2, 10, 30], [5, 6, 20, 30]]
    dog = document["annotations"][2]
    assert dog["caption"] == ["a brown dog", "The dog"]
    for phrase, text in zip(dog["phrases"], dog["caption"], strict=True):
        start, end = phrase["span"]
        assert document["images"][0]["sentences"][phrase["sentence"]][start:end] == text


def test_the_one_reader_reads_it(folder: Path) -> None:
    data = read_labelled(folder, folder / "images").located()
    assert [region.box for region in data.regions] == [(1, 2, 11, 32), (20, 2, 30, 32), (5, 6, 25, 36)]
    assert data.regions[0].captions == ("Two men",) and data.sizes == {7: (50, 40)}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations/7.xml", "<annotation>", "7.xml is not valid XML"),
        ("Annotations/7.xml", "<annotation></annotation>", "7.xml has no filename"),
        ("Annotations/7.xml", _XML.replace("<xmin>1<", "<xmin>left<"), "without four numbers"),
        ("Annotations/7.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares entities of XML"),
        ("Annotations/8.xml", _XML, "has no 8.txt in Sentences"),
        ("Sentences/7.txt", "[/EN#1/people Two men are .", "7.txt, line 1 has a mark"),
    ],
)
def test_what_is_damaged_is_named(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        read_entities(folder)


def test_any_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder without Sentences and Annotations"):
        read_labelled(tmp_path)
