"""The command: standard output holds only the result, and errors are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dynrefer.model import DynRefer
from dynrefer.model.errors import ConfigError, OutputFileError
from dynrefer.workbench.evaluation import jobs
from dynrefer.workbench.evaluation.command import evaluate_command
from dynrefer.workbench.evaluation.metrics.curves import Curves
from dynrefer.workbench.evaluation.report.tables import markdown_table
from dynrefer.workbench.evaluation.scenes import SceneResult
from dynrefer.workbench.evaluation.tune import Tuning

app = typer.Typer()
app.command()(evaluate_command)

IMPORTING = ("jobs", "data", "metrics.caption_scores")  # from the command to pycocoevalcap
RESULT = {
    "class": 0.8,
    "class_unseen_style": None,
    "standard_errors": {"class": 0.01, "class_unseen_style": None},
    "regions": {"test": 2003},
    "model": "x",
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options that the command passes to `measure`, which prints to standard output as a library might."""
    seen: list[dict[str, Any]] = []

    def measured(predictor: object, world: object, **options: Any) -> SceneResult:
        print("chatter of a library")
        seen.append(options)
        return SceneResult(RESULT, Curves())

    monkeypatch.setattr(DynRefer, "load", lambda model, device: model)
    monkeypatch.setattr(jobs, "measure", measured)
    return seen


def test_json_and_nothing_else(calls: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(app, ["--scenes-seed", "7", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == RESULT
    assert "chatter" in result.stderr
    assert calls[0]["scenes_seed"] == 7 and calls[0]["regions"] == 2_000


def test_a_table_for_people(calls: list[dict[str, Any]]) -> None:
    lines = CliRunner().invoke(app, ["--regions", "50"]).stdout.splitlines()
    assert calls[0]["regions"] == 50
    assert [line.split() for line in lines] == [
        ["class", "0.800", "±", "0.010"],
        ["class_unseen_style", "not", "measured"],
        ["regions", "test", "2003"],
        ["model", "x"],
    ]


def test_scenes_as_jpeg(calls: list[dict[str, Any]]) -> None:
    CliRunner().invoke(app, ["--jpeg", "75"])
    CliRunner().invoke(app, [])
    assert [options["jpeg_quality"] for options in calls] == [75, None]


def test_unmeasured_values_are_explained(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    noted = {**RESULT, "notes": {"class_unseen_style": "the style is not installed; `make art` installs it"}}
    monkeypatch.setattr(jobs, "measure", lambda *given, **options: SceneResult(noted, Curves()))
    lines = CliRunner().invoke(app, []).stdout.splitlines()
    assert "class_unseen_style  not measured: the style is not installed; `make art` installs it" in lines
    assert not any(line.startswith("notes") for line in lines)
    page = markdown_table(noted)
    assert "| class_unseen_style | not measured: the style is not installed; `make art` installs it |  |" in page
    assert json.loads(CliRunner().invoke(app, ["--json"]).stdout) == noted


SAVED = ["--data", "x", "--task", "captions", "--predictions", "y"]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--apply"], ["--tune", "no/such/folder/x.json"], ["--scenes-seed", "-1"], ["--regions", "1"]),
        *(["--task", "captions"], ["--images", "x"], ["--predictions", "x"], ["--data", "x"]),
        *(["--data", "x", "--task", "poetry"], ["--data", "x", "--task", "captions", "--scenes-seed", "1"]),
        *(["--data", "x", "--task", "captions", "--proposals", "y"], ["--tune", "x.json", "--sweep-views"]),
        ["--data", "x", "--task", "captions", "--predictions", "y", "--save-predictions", "z"],
        *(["--data", "x", "--sweep-views", "--predictions", "y"], ["--captions", "x"], ["--box-format", "xyxy"]),
        *(["--views", "task-prior"], ["--views", "image-prior", "--tune", "x.json"], ["--batch-regions", "8"]),
        *(["--batch-regions", "8", "--tune", "x.json"], ["--data", "x", "--sweep-views", "--views", "task-prior"]),
        *([*SAVED, "--model", "embedded"], [*SAVED, "--device", "cpu"], [*SAVED, "--views", "task-prior"]),
        *([*SAVED, "--batch-regions", "8"], ["--data", "x", "--task", "recognition", "--captions", "y"]),
        ["--data", "x", "--task", "captions", "--box-format", "cxcywh"],
    ],
)
def test_usage_errors_stop_before_any_work(arguments: list[str], calls: list[dict[str, Any]]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not calls


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only what fails to import is taken out, so that the other modules are the same before and after.
    for name in list(sys.modules):
        if name.startswith("pycocoevalcap") or name.removeprefix("dynrefer.workbench.evaluation.") in IMPORTING:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    result = CliRunner().invoke(app, ["--json"])
    assert isinstance(result.exception, ConfigError)
    assert "dynrefer[evaluate]" in str(result.exception)


@pytest.fixture
def measurable(tmp_path: Path) -> list[str]:
    """The arguments that measure saved predictions of one region; the files are data.json and saved.jsonl."""
    region = {"id": 1, "image_id": 1, "bbox": [1, 1, 5, 5], "category_id": 1}
    document = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "data.json").write_text(json.dumps({**document, "annotations": [region]}))
    line = {"image": 1, "region": 1, "categories": [{"name": "dog", "score": 1.0}]}
    (tmp_path / "saved.jsonl").write_text(json.dumps(line))
    data, saved = str(tmp_path / "data.json"), str(tmp_path / "saved.jsonl")
    return ["--data", data, "--task", "recognition", "--predictions", saved]


def test_a_result_replaces_an_earlier_one_only_if_asked(measurable: list[str], tmp_path: Path) -> None:
    arguments = [*measurable, "--out", str(tmp_path / "report"), "--json"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, OutputFileError) and "recognition.json exists" in str(again.exception)
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0


def test_a_result_never_replaces_what_is_measured(measurable: list[str], tmp_path: Path) -> None:
    (tmp_path / "recognition.json").symlink_to("data.json")
    before = (tmp_path / "data.json").read_text()
    refused = CliRunner().invoke(app, [*measurable, "--out", str(tmp_path), "--overwrite"])
    assert "which this command reads" in str(refused.exception) and (tmp_path / "data.json").read_text() == before


@pytest.mark.parametrize("output", ["data.json", "captions.jsonl", "a.png", "model/config.json"])
def test_predictions_never_replace_what_is_read(output: str, measurable: list[str], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("captions.jsonl", "a.png", "model/config.json"):
        (tmp_path / name).write_text("")
    given = ["--task", "captions", "--captions", str(tmp_path / "captions.jsonl"), "--model", str(tmp_path / "model")]
    output = str(tmp_path / "model" / ".." / output)
    refused = CliRunner().invoke(app, [*measurable[:2], *given, "--save-predictions", output, "--overwrite"])
    assert isinstance(refused.exception, OutputFileError) and "which this command reads" in str(refused.exception)


def test_tune_writes_the_fragment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fragment = {"thresholds": {"tags": 0.61}}
    model, out = tmp_path / "model", tmp_path / "tuning.json"
    model.mkdir()
    (model / "config.json").write_text("{}")
    monkeypatch.setattr(jobs, "tune", lambda *given, **options: Tuning(fragment, {"tags": {"0": 1.0}}))
    arguments = ["--model", str(model), "--tune", str(out), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert json.loads(result.stdout) == {**fragment, "quality": {"tags": {"0": 1.0}}}
    assert json.loads(out.read_text()) == fragment and (model / "config.json").read_text() == "{}"
    again = CliRunner().invoke(app, [*arguments, "--apply"])
    assert isinstance(again.exception, OutputFileError) and "pass --overwrite" in str(again.exception)
    CliRunner().invoke(app, [*arguments, "--apply", "--overwrite"])
    assert json.loads((model / "config.json").read_text()) == fragment
