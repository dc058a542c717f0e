"""`dynrefer evaluate --data`, from the command line to the files, with an oracle for a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from dynrefer.model import DynRefer
from dynrefer.model.errors import ModelError
from dynrefer.model.types import Task
from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.data.labelled_files import read_labelled
from dynrefer.workbench.evaluation.command import evaluate_command
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.scenes.world import World
from tests.system_programs import needs_java
from tests.workbench.command_line import refusal
from tests.workbench.evaluation.drawn_data import coco_file, draw_regions
from tests.workbench.evaluation.oracle import PRIORS, Oracle

app = typer.Typer()
app.command()(evaluate_command)


@pytest.fixture(scope="module")
def drawn(world: World) -> RegionSet:
    """Drawn once; nothing changes it."""
    return draw_regions(world, 40)


@pytest.fixture(scope="module")
def drawn_folder(drawn: RegionSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set that every test gets a copy of."""
    return coco_file(drawn, tmp_path_factory.mktemp("drawn")).parent


@pytest.fixture
def data(drawn: RegionSet, drawn_folder: Path, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of drawn scenes that the oracle knows, loaded in the model's place."""
    monkeypatch.setattr(DynRefer, "load", lambda model, device: oracle)
    for scene in drawn.scenes:
        oracle.show(scene)
    shutil.copytree(drawn_folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data.json"


def _run(data: Path, task: str, *more: str) -> Result:
    return CliRunner().invoke(app, ["--data", str(data), "--task", task, "--json", *more], catch_exceptions=False)


def test_recognition_live_saved_and_drawn(data: Path, oracle: Oracle, tmp_path: Path) -> None:
    oracle.knows = lambda obj, task, views: obj.category < "m"
    saved, out = str(tmp_path / "p.jsonl"), tmp_path / "out"
    live = json.loads(_run(data, "recognition", "--save-predictions", saved, "--out", str(out)).stdout)
    truth = json.loads(data.read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    right = [names[each["category_id"]] < "m" for each in truth["annotations"]]
    assert live["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-4) and 0 < live["accuracy"] < 1
    assert 0 < live["map"] < 1 and live["regions"] == len(right) and live["images"] == len(truth["images"])
    assert {query.views for query in oracle.queries} == {None}  # the task's prior
    assert {query.tasks for query in oracle.queries} == {(Task.CATEGORIES,)}
    assert sorted(path.name for path in out.iterdir()) == [
        *("recognition.json", "recognition.md", "recognition_calibration.png", "recognition_precision_recall.png"),
    ]
    before = len(oracle.queries)
    again = json.loads(_run(data, "recognition", "--predictions", saved).stdout)
    assert len(oracle.queries) == before
    same = live.keys() & again.keys()
    assert {name: again[name] for name in same} == {name: live[name] for name in same}
    assert (live["model"], live["views"], again["predictions"]) == ("oracle", "task prior", "p.jsonl")


def test_attributes_by_frequency(data: Path, oracle: Oracle, tmp_path: Path) -> None:
    found = json.loads(_run(data, "attributes", "--views", "image-prior", "--out", str(tmp_path / "out")).stdout)
    assert [found[name] for name in ("map", "map_head", "map_medium", "map_tail")] == [1.0] * 4
    assert found["standard_errors"]["map"] == 0.0 and found["calibration_error"]["attributes"] == pytest.approx(0.1)
    assert all(query.views is not None and query.views != PRIORS["attributes"] for query in oracle.queries)
    assert (tmp_path / "out" / "attributes_calibration.png").stat().st_size > 5_000


def _official(data: Path) -> list[str]:
    """Rewrite the data in the official layout, which lists no categories, for two categories only; their names."""
    truth = json.loads(data.read_text())
    names = {category["id"]: category["name"] for category in truth.pop("categories")}
    for each in truth["annotations"]:
        x, y, width, height = each["bbox"]
        category = names[each.pop("category_id")]
        each |= {"bbox": [x, y, x + width, y + height], "extra_info": {"coco_result": {"category": category}}}
    kept = sorted({each["extra_info"]["coco_result"]["category"] for each in truth["annotations"]})[:2]
    truth["annotations"] = [e for e in truth["annotations"] if e["extra_info"]["coco_result"]["category"] in kept]
    data.write_text(json.dumps(truth))
    return kept


def test_all_of_the_models_categories_are_candidates_if_the_file_lists_none(
    data: Path, oracle: Oracle, world: World, tmp_path: Path
) -> None:
    two, saved = _official(data), tmp_path / "p.jsonl"
    oracle.knows = lambda obj, task, views: obj.category == two[0]
    live = json.loads(_run(data, "recognition", "--save-predictions", str(saved)).stdout)
    truth = [each["extra_info"]["coco_result"]["category"] for each in json.loads(data.read_text())["annotations"]]
    # Where the oracle errs, all other categories have equal scores, and the first is not the second of the two.
    assert live["accuracy"] == pytest.approx(truth.count(two[0]) / len(truth), abs=1e-4) and 0 < live["accuracy"] < 1
    named = {label["name"] for line in saved.read_text().splitlines() for label in json.loads(line)["categories"]}
    assert named == {category.name for category in world.categories}
    again = json.loads(_run(data, "recognition", "--predictions", str(saved)).stdout)
    assert (again["accuracy"], again["map"], again["by_category"]) == (
        *(live["accuracy"], live["map"]),
        live["by_category"],
    )
    study = json.loads(_run(data, "recognition", "--sweep-views", "--regions", "20").stdout)
    assert study["over_t"]["0"]["class"]["value"] < 1.0


def test_candidates_of_an_open_file() -> None:
    regions = (LabelledRegion(1, 1, (0, 0, 9, 9), category="dog"),)
    data = LabelledData("x.json", {1: Path("a.png")}, regions, categories={"dog": 1}, open_categories=True)
    assert data.competing(["cat", "dog"]).categories == {"cat": 1, "dog": 2}
    assert data.competing(["cat"]).categories == {"cat": 1, "dog": 2}  # the missing one is reported later
    assert data.competing(["cat", "dog"]).category_targets.tolist() == [1]


def test_no_model_runs_without_something_to_measure(
    data: Path, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynrefer.workbench.evaluation.metrics.java.has_java", lambda: False)
    with pytest.raises(ModelError, match="dense-captions, which ranks captions by METEOR, needs Java"):
        _run(data, "dense-captions")
    truth = json.loads(data.read_text())
    for each in truth["annotations"]:
        each["att_vec"] = [0] * len(each["att_vec"])
    data.write_text(json.dumps(truth))
    with pytest.raises(ModelError, match="no attribute is present in any region of data.json"):
        _run(data, "attributes")
    assert not oracle.queries


def test_captions_from_a_file_of_their_own(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynrefer.workbench.evaluation.metrics.caption_scores.has_java", lambda: False)
    before = json.loads(_run(data, "captions").stdout)
    truth = json.loads(data.read_text())
    lines = [
        {"annotation_id": each["id"], "caption": text} for each in truth["annotations"] for text in each.pop("caption")
    ]
    data.write_text(json.dumps(truth))
    (tmp_path / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(ModelError, match="has no region with a caption"):
        _run(data, "captions")
    assert json.loads(_run(data, "captions", "--captions", str(tmp_path / "captions.jsonl")).stdout) == before


def test_the_boxes_are_read_as_the_flag_says(data: Path, oracle: Oracle) -> None:
    truth = json.loads(data.read_text())
    for each in truth["annotations"]:
        x, y, width, height = each["bbox"]
        each["bbox"] = [x, y, x + width, y + height]
    data.write_text(json.dumps(truth))
    assert json.loads(_run(data, "recognition", "--box-format", "xyxy").stdout)["accuracy"] == 1.0


def test_batches_reach_across_images(data: Path, oracle: Oracle) -> None:
    _run(data, "recognition", "--batch-regions", "16")
    assert oracle.batches[:-1] == [16] * (len(oracle.queries) // 16)


def test_captions(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynrefer.workbench.evaluation.metrics.caption_scores.has_java", lambda: False)
    ran = _run(data, "captions", "--regions", "20")
    found = json.loads(ran.stdout)
    assert "meteor is null: METEOR needs Java" in ran.stderr
    assert found["meteor"] is None and found["cider"] > 3 and found["tokenizer"] == "ours"
    assert found["notes"]["meteor"].startswith("METEOR needs Java")
    assert 20 <= found["regions"] < 40


@needs_java
def test_captions_and_dense_captions_with_java(data: Path, tmp_path: Path) -> None:
    truth = json.loads(data.read_text())
    boxes = [{"image_id": each["image_id"], "bbox": each["bbox"], "score": 0.5} for each in truth["annotations"]]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    more = ("--proposals", str(tmp_path / "boxes.json"), "--out", str(tmp_path / "out"))
    dense = json.loads(_run(data, "dense-captions", *more).stdout)
    assert dense["map"] == dense["boxes_alone_map"] == 1.0 and len(dense["by_threshold"]) == 30
    assert dense["proposals"] == "boxes.json"
    found = json.loads(_run(data, "captions").stdout)
    assert found["meteor"] == 1.0 and found["tokenizer"] == "Penn Treebank"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--predictions", "none.jsonl"], "cannot read none.jsonl: No such file or directory."),
        (["--data", "none.json"], "cannot read none.json: No such file or directory."),
        (["--images", "nowhere"], "no file nowhere/1.png; name the folder of the images with --images."),
        (["--task", "poetry"], "'poetry' is not one of"),
        (["--out", "data.json/x"], "cannot write into --out data.json/x"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_2(
    data: Path,
    more: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    command = ("evaluate", "--data", "data.json", "--task", "recognition", *more)
    assert sentence in refusal(monkeypatch, capsys, *command)


def test_an_image_that_is_broken_and_a_box_outside_are_named(data: Path) -> None:
    truth = json.loads(data.read_text())
    truth["annotations"][0]["bbox"] = [5_000, 5_000, 10, 10]
    data.write_text(json.dumps(truth))
    with pytest.raises(ModelError, match="annotation 100 .1.png.: .* covers nothing of the image"):
        _run(data, "recognition", "--views", "image-prior")
    (data.parent / "1.png").write_bytes(b"no image")
    with pytest.raises(ModelError, match="annotation 100 .1.png.: .*1.png is not an image"):
        _run(data, "recognition")


def _damaged(path: Path) -> None:
    """Pillow's reader of PNG raises SyntaxError for such a check sum."""
    content = path.read_bytes()
    place = content.index(b"IDAT") + 40
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])


def test_a_damaged_image_is_a_one_line_error(data: Path) -> None:
    _damaged(data.parent / "1.png")
    with pytest.raises(ModelError, match=r"the image .*1.png cannot be read: .*[^.]\.$"):
        _run(data, "recognition")


def test_images_are_in_the_frame_of_their_annotations(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((8, 12, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    images = [{"id": 1, "file_name": "a.jpg"}]
    annotations = [{"id": 1, "image_id": 1, "bbox": [0, 0, 4, 4]}]
    for listed, box in (
        ({}, (0, 0, 4, 4)),
        ({"width": 8, "height": 12}, (0, 0, 4, 4)),
        ({"width": 12, "height": 8}, (4, 0, 8, 4)),
    ):
        file = {"images": [{**images[0], **listed}], "annotations": annotations}
        (tmp_path / "data.json").write_text(json.dumps(file))
        (found,) = read_labelled(tmp_path / "data.json").located().image_regions()
        assert found.load().shape == (12, 8, 3) and found.boxes == (box,)
    (tmp_path / "data.json").write_text(json.dumps({**file, "images": [{**images[0], "width": 9, "height": 9}]}))
    with pytest.raises(ModelError, match="a.jpg.: it is 8 x 12 pixels, but listed as 9 x 9"):
        read_labelled(tmp_path / "data.json").located()


def test_a_model_that_lacks_a_label_is_refused(data: Path, oracle: Oracle) -> None:
    truth = json.loads(data.read_text())
    truth["categories"].append({"id": 10_000, "name": "gryphon"})
    data.write_text(json.dumps(truth))
    for more in ((), ("--sweep-views",)):
        with pytest.raises(ModelError, match="oracle does not know data.json: its categories lack 'gryphon'"):
            _run(data, "recognition", *more)
    assert not oracle.queries
