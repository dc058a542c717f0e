"""Labelled photographs: both layouts are read, and whatever does not fit is refused by name."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dynrefer.workbench.data.photographs import LabelledBox, LabelledPhotograph, Split, read_photographs
from dynrefer.workbench.errors import DataError

COMMITTED = Path(__file__).parents[3] / "benchmarks" / "photographs"
SEVERAL: dict[str, Any] = {
    "file": "street.jpg",
    "split": "test",
    "size": [64, 48],
    "source": "a package 1.0, doc/street.jpg",
    "author": "Somebody",
    "licence": "CC0-1.0",
    "licence_stated": "the package's README",
    "boxes": [
        {"box": [1, 2, 30, 40], "accepted": ["person", "woman"], "parents": [], "colours": ["red"]},
        {"box": [0, 0, 64.0, 48], "accepted": ["bus"], "parents": ["vehicle"], "colours": [], "scene": ["street"]},
    ],
}
ONE: dict[str, Any] = {
    "file": "dog.jpg",
    "size": [64, 48],
    "box": [0, 0, 64, 48],
    "accepted": ["dog"],
    "licence": "CC-BY-4.0",
}


def written(folder: Path, entries: Any) -> Path:
    """The folder, with the labels and a file for each picture."""
    (folder / "labels.json").write_text(json.dumps(entries))
    for name in ("street.jpg", "dog.jpg"):
        (folder / name).touch()
    return folder


def changed(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The entry with members changed; None takes a member out."""
    found = {**copy.deepcopy(entry), **changes}
    return {member: value for member, value in found.items() if value is not None}


def changed_box(**changes: Any) -> dict[str, Any]:
    """The entry with several boxes, members of its first box changed."""
    entry = copy.deepcopy(SEVERAL)
    entry["boxes"][0] = changed(entry["boxes"][0], **changes)
    return entry


def test_both_layouts_are_read(tmp_path: Path) -> None:
    several, one = read_photographs(written(tmp_path, [SEVERAL, ONE]))
    assert several == LabelledPhotograph(
        path=tmp_path / "street.jpg",
        size=(64, 48),
        licence="CC0-1.0",
        split=Split.TEST,
        boxes=(
            LabelledBox((1.0, 2.0, 30.0, 40.0), ("person", "woman"), (), ("red",)),
            LabelledBox((0.0, 0.0, 64.0, 48.0), ("bus",), ("vehicle",), (), ("street",)),
        ),
    )
    assert one == LabelledPhotograph(
        path=tmp_path / "dog.jpg",
        size=(64, 48),
        licence="CC-BY-4.0",
        split=None,
        boxes=(LabelledBox((0.0, 0.0, 64.0, 48.0), ("dog",)),),
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (3, "entry 0: it is not a JSON object"),
        (changed(ONE, file=None), "entry 0: file must be"),
        (changed(ONE, file="cat.jpg"), r"entry 0 \(cat.jpg\): file is not in the folder"),
        (changed(ONE, file="../dog.jpg"), "file must be the name of a file"),
        (changed(ONE, licence=None), r"entry 0 \(dog.jpg\): licence is missing"),
        (changed(ONE, licence=" "), "licence must be a text"),
        (changed(ONE, colour=["red"]), "'colour' is not a member"),
        (changed(ONE, split="train"), "split must be 'calibration' or 'test'"),
        (changed(ONE, size=[64]), "size must be"),
        (changed(ONE, size=[64, 48.0]), "size must be"),
        (changed(ONE, accepted=[]), "accepted must hold at least one"),
        (changed(ONE, accepted=["Dog"]), "accepted must be a list of texts in lower case"),
        (changed(ONE, accepted=["dog", "dog"]), "accepted holds a text twice"),
        (changed(SEVERAL, split="train"), "split must be 'calibration' or 'test', not 'train'"),
        (changed(SEVERAL, split=["test"]), "split must be"),
        (changed(SEVERAL, author=""), "author must be"),
        (changed(SEVERAL, source=None), "source is missing"),
        (changed(SEVERAL, licence_stated=None), "licence_stated is missing"),
        (changed(SEVERAL, boxes=[]), "boxes must be"),
        (changed(SEVERAL, boxes=[1]), r"boxes\[0\]: it is not a JSON object"),
        (changed_box(parents=None), r"entry 0 \(street.jpg\), boxes\[0\]: parents is missing"),
        (changed_box(parents=["woman"]), "'woman', which is also in accepted"),
        (changed_box(colours=["teal"]), "colours has 'teal'"),
        (changed_box(note="x"), "'note' is not a member"),
        (changed_box(box=[1, 2, 3]), "box must be"),
        (changed_box(box=[1, 2, 3, True]), "box must be"),
        (changed_box(box=[9, 2, 3, 8]), "is inverted, empty or not finite"),
        (changed_box(box=[1, 2, 3, 1e999]), "is inverted, empty or not finite"),
        (changed_box(box=[1, 2, 3, 10**400]), "is inverted, empty or not finite"),
        (changed_box(box=[1, 2, 65, 8]), "reaches beyond the picture of 64 x 48 pixels"),
        (changed_box(box=[-1, 2, 6, 8]), "reaches beyond the picture"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, entry: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_photographs(written(tmp_path, [entry]))


def test_a_picture_with_its_boxes_is_listed_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"entry 1 \(street.jpg\): file is that of an earlier entry"):
        read_photographs(written(tmp_path, [SEVERAL, SEVERAL]))


@pytest.mark.parametrize("entries", [{}, [], {"images": []}])
def test_the_file_is_a_list(tmp_path: Path, entries: Any) -> None:
    with pytest.raises(DataError, match="is not a list of photographs"):
        read_photographs(written(tmp_path, entries))


def test_the_file_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels.json"):
        read_photographs(tmp_path)


@pytest.fixture(scope="module")
def committed() -> tuple[LabelledPhotograph, ...]:
    return read_photographs(COMMITTED)


def test_the_committed_pictures_are_as_listed(committed: tuple[LabelledPhotograph, ...]) -> None:
    for photograph in committed:
        with Image.open(photograph.path) as picture:
            assert picture.size == photograph.size and max(picture.size) <= 640, photograph.path.name
    listed = {photograph.path.name for photograph in committed}
    assert listed == {path.name for path in COMMITTED.glob("*.jpg")}
    assert sum(path.stat().st_size for path in COMMITTED.iterdir()) <= 4_000_000


def test_the_committed_licences_are_permissive(committed: tuple[LabelledPhotograph, ...]) -> None:
    """`read_photographs` has checked that each is stated, and that every box lies inside its picture."""
    assert {photograph.licence for photograph in committed} <= {"CC0-1.0", "CC-BY-2.0", "CC-BY-4.0", "MIT"}


def test_the_committed_split_is_that_of_the_files(committed: tuple[LabelledPhotograph, ...]) -> None:
    """A third calibrates: the rule of benchmarks/photographs/README.md, which no content can sway."""
    for photograph in committed:
        digest = hashlib.sha256(photograph.path.read_bytes()).hexdigest()
        expected = Split.CALIBRATION if int(digest[:8], 16) % 3 == 0 else Split.TEST
        assert photograph.split is expected, photograph.path.name
    assert {photograph.split for photograph in committed} == {Split.CALIBRATION, Split.TEST}


def test_entries_of_one_file_are_one_photograph(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "zoo.png")
    entry = {"file": "zoo.png", "size": [8, 6], "accepted": ["dog"], "licence": "CC0-1.0"}
    other = entry | {"box": [2, 0, 8, 6], "accepted": ["cat"], "parents": ["animal"], "colours": ["gray"]}
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([entry | {"box": [0, 0, 4, 6]}, other]))
    (photograph,) = read_photographs(tmp_path)
    assert [box.accepted for box in photograph.boxes] == [("dog",), ("cat",)]
    assert photograph.boxes[1].parents == ("animal",) and photograph.boxes[1].colours == ("gray",)
    labels.write_text(json.dumps([entry | {"box": [0, 0, 4, 6]}, other | {"size": [9, 6]}]))
    with pytest.raises(DataError, match="differ from those of an earlier entry"):
        read_photographs(tmp_path)
