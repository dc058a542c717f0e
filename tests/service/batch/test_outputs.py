"""The files that are written: what they hold, and that our own readers read them back."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dynrefer.service.batch.answers import Answers, Order
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Item
from dynrefer.service.batch.journal import Journal
from dynrefer.service.batch.outputs import check_place, output_of, write_failures, write_output
from dynrefer.service.batch.sources import open_source
from tests.service.batch.inputs import lines_of, make_images


def label(name: str, probability: float, **more: Any) -> dict[str, Any]:
    return {"name": name, **more, "score": 0.9, "probability": probability}


def attribute(kind: str, value: str, probability: float) -> dict[str, Any]:
    return label(f"{kind}:{value}", probability, type=kind, value=value)


DESCRIBED = {
    "clipped": False,
    "views": [{"t": 0.0, "box": [1.0, 2.0, 31.0, 22.0]}],
    "view_policy": "image_prior",
    "caption": {"text": "a brown dog", "score": 0.5, "name": "dog", "probability": 0.75},
    "tags": [label("dog", 0.8), label("street", 0.6)],
    "attributes": [attribute("color", "brown", 0.9), attribute("color", "white", 0.7), attribute("size", "big", 0.4)],
    "categories": [label("dog", 0.7), label("fox", 0.1)],
}
MASK = {"size": [48, 64], "counts": "PPQ8"}
LINES: list[dict[str, Any]] = [
    {
        "file": "0000.png",
        "image": {"width": 64, "height": 48},
        "regions": [
            {"id": "7", "box": [1.0, 2.0, 31.0, 22.5], **DESCRIBED},
            {"id": "5", "box": [8.0, 8.0, 24.0, 40.0], "caption": DESCRIBED["caption"], "label": "Grün: a/b"},
            {"id": "9", "error": {"type": "urn:problem-type:dynrefer:invalid-request", "detail": "It lies outside."}},
        ],
    },
    {"file": "sub/0001.png", "error": {"type": "unreadable", "detail": "The file cannot be read."}, "id": 4},
    {
        "file": "sub/0000.png",
        "image": {"width": 64, "height": 48},
        "regions": [
            {"id": "8", "box": [0.0, 0.0, 64.0, 48.0], "label": "cat", "score": 0.6, "probability": 0.5, "mask": MASK}
        ],
    },
    {"file": "0002.png", "image": {"width": 64, "height": 48}, "regions": []},
]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Of a run that is over."""
    images = tmp_path / "images"
    make_images(images, 3), make_images(images / "sub", 1)
    journal, order = Journal(tmp_path / "out.journal.jsonl"), Order()
    journal.begin({"model": "fake"})
    for line in reversed(LINES):  # they come in another order than that of the input
        journal.append(Item(line["file"], images).digest, line)
    for line in LINES:
        order.append(Item(line["file"], images).digest)
    return Answers(journal, order, images)


def write(answers: Answers, path: Path) -> Path:
    write_output(output_of(path), answers)
    return path


def test_lines_are_the_images_that_were_answered(answers: Answers, tmp_path: Path) -> None:
    found = lines_of(write(answers, tmp_path / "out.jsonl"))
    assert found == [LINES[0], LINES[2], LINES[3]]


def test_failures_are_images_and_regions(answers: Answers, tmp_path: Path) -> None:
    assert write_failures(tmp_path / "failed.jsonl", answers) == 2
    assert lines_of(tmp_path / "failed.jsonl") == [
        {"file": "0000.png", "region": "9", "reason": "It lies outside.", "type": "invalid-request"},
        {"file": "sub/0001.png", "id": 4, "reason": "The file cannot be read.", "type": "unreadable"},
    ]


def test_coco_has_captions_and_attributes(answers: Answers, tmp_path: Path) -> None:
    document = json.loads(write(answers, tmp_path / "out.coco.json").read_text(encoding="utf-8"))
    assert [each["file_name"] for each in document["images"]] == ["0000.png", "sub/0000.png", "0002.png"]
    assert document["images"][0] == {"id": 1, "file_name": "0000.png", "width": 64, "height": 48}
    names = {each["id"]: each["name"] for each in document["categories"]}
    assert sorted(names.values()) == ["Grün: a/b", "cat", "dog"]
    first, second, third = document["annotations"]
    assert first | {"category_id": names[first["category_id"]]} == {
        "id": 7,  # that of the region: all are whole numbers and different
        "image_id": 1,
        "category_id": "dog",
        "bbox": [1.0, 2.0, 30.0, 20.5],
        "area": 615.0,
        "iscrowd": 0,
        "segmentation": [],
        "caption": "a brown dog",
        "score": 0.7,
        "attributes": {"color": "brown"},
        "tags": ["dog", "street"],
    }
    assert names[second["category_id"]] == "Grün: a/b" and "score" not in second and "tags" not in second
    assert third["segmentation"] == MASK and third["score"] == 0.5 and third["image_id"] == 2


def test_coco_keeps_the_inputs_ids_only_where_all_can_be_kept(answers: Answers, tmp_path: Path) -> None:
    line = {**LINES[3], "regions": [{"id": "7", "box": [1, 1, 9, 9]}]}
    answers.journal.append(Item("0002.png", tmp_path).digest, line)
    document = json.loads(write(answers, tmp_path / "out.coco.json").read_text(encoding="utf-8"))
    assert [each["id"] for each in document["annotations"]] == [1, 2, 3, 4]
    assert document["categories"][1:] == [
        {"id": 2, "name": "cat"},
        {"id": 3, "name": "dog"},
        {"id": 4, "name": "object"},
    ]


def test_hugging_faces_objects(answers: Answers, tmp_path: Path) -> None:
    first, *_ = lines_of(write(answers, tmp_path / "metadata.jsonl"))
    assert first == {
        "file_name": "0000.png",
        "width": 64,
        "height": 48,
        "objects": {
            "id": ["7", "5"],
            "bbox": [[1.0, 2.0, 30.0, 20.5], [8.0, 8.0, 16.0, 32.0]],
            "area": [615.0, 512.0],
            "category": ["dog", "Grün: a/b"],
            "caption": ["a brown dog", "a brown dog"],
            "tags": [["dog", "street"], []],
            "attributes": [["color:brown"], []],
        },
    }


def test_yolo_is_a_data_set_with_its_images(answers: Answers, tmp_path: Path) -> None:
    folder = write(answers, tmp_path / "out.yolo")
    assert (folder / "labels" / "0000.txt").read_text().splitlines() == [
        "2 0.25 0.25520833 0.46875 0.42708333",
        "0 0.25 0.5 0.25 0.66666667",
    ]
    assert (folder / "labels" / "sub" / "0000.txt").read_text() == "1 0.5 0.5 1 1\n"
    assert (folder / "labels" / "0002.txt").read_text() == ""
    assert (folder / "images" / "sub" / "0000.png").samefile(answers.images / "sub" / "0000.png")
    assert "0: 'Grün: a/b'" in (folder / "data.yaml").read_text(encoding="utf-8")


def test_voc_has_captions_and_attributes(answers: Answers, tmp_path: Path) -> None:
    folder = write(answers, tmp_path / "out.voc")
    root = ElementTree.parse(folder / "Annotations" / "0000.xml").getroot()
    first = root.find("object")
    assert first is not None and first.findtext("name") == "dog"
    assert [first.findtext(f"bndbox/{each}") for each in ("xmin", "ymin", "xmax", "ymax")] == ["1", "2", "31", "22.5"]
    attributes = {each.findtext("name"): each.findtext("value") for each in first.iter("attribute")}
    assert attributes == {"caption": "a brown dog", "color": "brown"}
    assert (folder / "ImageSets" / "Main" / "default.txt").read_text().split() == ["0000", "sub/0000", "0002"]
    assert (folder / "JPEGImages" / "0000.png").samefile(answers.images / "0000.png")


def test_parquet_has_a_row_per_region(answers: Answers, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    rows = pq.read_table(write(answers, tmp_path / "out.parquet")).to_pylist()
    assert [(row["file"], row["region"]) for row in rows] == [
        ("0000.png", "7"),
        ("0000.png", "5"),
        ("0000.png", "9"),
        ("sub/0000.png", "8"),
    ]
    assert rows[0]["caption"] == "a brown dog" and rows[0]["caption_probability"] == 0.75
    assert rows[0]["box"] == [1.0, 2.0, 31.0, 22.5] and rows[0]["image_width"] == 64
    assert rows[0]["attributes"][0] == attribute("color", "brown", 0.9)
    assert rows[0]["views"] == DESCRIBED["views"] and rows[0]["error"] is None
    assert rows[1]["label"] == "Grün: a/b" and rows[1]["tags"] is None
    assert rows[2]["error"] == "It lies outside." and rows[2]["box"] is None
    assert rows[3]["mask"] == MASK and rows[3]["probability"] == 0.5


def test_parquet_is_written_in_row_groups(answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("dynrefer.service.batch.formats.parquet.ROW_GROUP", 3)
    file = pq.ParquetFile(write(answers, tmp_path / "out.parquet"))
    assert [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)] == [3, 1]


def test_parquet_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BatchError, match=r"needs the package pyarrow: pip install 'dynrefer\[batch\]' adds it"):
        output_of(Path("out.parquet"))


@pytest.mark.parametrize("name", ["out.coco.json", "metadata.jsonl", "out.yolo", "out.voc"])
def test_what_is_written_is_read_back(answers: Answers, tmp_path: Path, name: str) -> None:
    written = write(answers, tmp_path / name)
    given = {"out.yolo": written / "images", "out.voc": written / "JPEGImages"}.get(name, answers.images)
    boxes = {"out.yolo": written / "labels", "out.voc": written / "Annotations"}.get(name, written)
    source, _ = open_source(given, boxes)
    found = {item.file: item for item in source.items()}
    assert [each for each, item in found.items() if item.num_regions] == ["0000.png", "sub/0000.png"]
    assert found["0000.png"].labels == ("dog", "Grün: a/b") and found["sub/0000.png"].labels == ("cat",)
    corners = found["0000.png"].request["regions"][0]["box"]
    wanted = {"out.yolo": [0.25, 0.25520833, 0.46875, 0.42708333], "out.voc": [1, 2, 31, 22.5]}
    assert corners == wanted.get(name, [1, 2, 30, 20.5])


def test_a_folder_takes_the_place_of_that_of_an_earlier_run(answers: Answers, tmp_path: Path) -> None:
    folder = write(answers, tmp_path / "out.yolo")
    (folder / "labels" / "old.txt").write_text("")
    assert not (write(answers, folder) / "labels" / "old.txt").exists()
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_an_output_that_fails_leaves_the_earlier_one(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(answers, tmp_path / "out.jsonl")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BatchError, match=r"cannot write .*out\.jsonl: no space left on device"):
        write(answers, path)
    assert path.read_bytes() == before


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 1)
    with pytest.raises(BatchError, match="would lie in"):
        check_place(output_of(tmp_path / "in" / "out.yolo"), tmp_path / "in", ())
    (tmp_path / "out.voc").write_text("")
    with pytest.raises(BatchError, match="it is there and no plain folder"):
        check_place(output_of(tmp_path / "out.voc"), tmp_path / "in", ())
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(BatchError, match="it is there and no plain file"):
        check_place(output_of(tmp_path / "out.jsonl"), tmp_path / "in", ())
