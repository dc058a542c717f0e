"""`dynrefer train` on the command line: which training it is, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from dynrefer.model.errors import ModelError
from dynrefer.model.loading import EMBEDDED
from dynrefer.workbench.training import command
from dynrefer.workbench.training.embedded import recipe as train

pytestmark = pytest.mark.training

app = typer.Typer()
app.command()(command.train_command)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """The one sentence of a refusal."""
    result = invoke(*arguments)
    assert isinstance(result.exception, ModelError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_without_data_it_is_the_embedded_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def train_embedded(out: Path, *, resume: bool, start: str | None, **others: object) -> Path:
        calls.append((out, resume, start, others))
        trained = Path(shutil.copytree(EMBEDDED, out / "model"))
        config = json.loads((trained / "config.json").read_text())
        (trained / "config.json").write_text(json.dumps(config | {"thresholds": {"tags": 0.5}, "calibration": {}}))
        return trained

    monkeypatch.setattr(train, "train_embedded", train_embedded)
    monkeypatch.setattr(command, "TUNING_REGIONS", 10)
    assert invoke("--preset", "embedded", "--out", tmp_path, "--resume", "--threads", 1).exit_code == 0
    assert calls == [(tmp_path, True, None, {"processes": os.cpu_count(), "seed": 0, "device": "auto"})]
    # What training leaves open is chosen too: one command makes the model that is measured.
    chosen = json.loads((tmp_path / "tuning.json").read_text())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["thresholds"] == chosen["thresholds"] != {"tags": 0.5}
    assert set(config["thresholds"]) == {"tags", "attributes"}
    assert set(config["calibration"]) == {"tags", "attributes", "categories"}


def test_the_added_stages_keep_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def train_embedded(out: Path, **given: object) -> Path:
        calls.append(given)
        return out / "model"

    monkeypatch.setattr(train, "train_embedded", train_embedded)
    flags = ("--from", "embedded", "--seed", 3, "--device", "cpu", "--processes", 2, "--threads", 1)
    done = invoke("--preset", "embedded", "--out", tmp_path, *flags)
    assert done.exit_code == 0, done.exception
    assert calls == [{"resume": False, "start": "embedded", "seed": 3, "device": "cpu", "processes": 2}]
    assert not (tmp_path / "tuning.json").exists()


def test_flags_of_the_recipe_are_refused_with_data(drawn: Path, tmp_path: Path) -> None:
    data = ("--train", drawn / "train.json", "--out", tmp_path / "run")
    assert "name the initial model with --init" in refused(*data, "--from", "embedded")
    assert "use --workers" in refused(*data, "--processes", 2)


def test_a_start_that_the_added_stages_cannot_train(tiny_model: Path, tmp_path: Path) -> None:
    assert "there is no model directory" in refused("--out", tmp_path / "run", "--from", tmp_path / "nothing")
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    vocabulary = json.loads((other / "vocabulary.json").read_text())
    vocabulary["tags"][0] = "something else"
    (other / "vocabulary.json").write_text(json.dumps(vocabulary))
    assert "its vocabulary is not that of the drawn scenes" in refused("--out", tmp_path / "run", "--from", other)
    assert not (tmp_path / "run").exists()


def test_with_data_it_trains_on_them(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = ("--train", drawn / "train.json", "--init", tiny_model, "--out", tmp_path / "run", "--device", "cpu")
    small = ("--epochs", 1, "--batch-size", 8, "--workers", 0, "--threads", 1, "--gradient-checkpointing")
    done = invoke(*data, *small)
    assert done.exit_code == 0, done.exception
    assert "samples in" in done.output and "dynrefer serve --model" in done.output
    assert "already holds a run; pass --resume" in refused(*data, *small)
    assert "--epochs is 2 but the run began with 1" in refused("--out", tmp_path / "run", "--resume", "--epochs", 2)
    assert invoke("--out", tmp_path / "run", "--resume").exit_code == 0


def test_a_folder_of_something_else(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}")
    data = ("--train", drawn / "train.json", "--device", "cpu")
    assert "holds something else" in refused(*data, "--out", tmp_path)
    assert "holds something else" in refused(*data, "--out", tmp_path / "log.jsonl")


def test_a_file_that_the_run_reads_is_not_one_that_it_writes(drawn: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(drawn / "train.json", tmp_path)
    (run / "bad_samples.json").symlink_to("../train.json")
    data = ("--train", tmp_path / "train.json", "--images", drawn, "--device", "cpu")
    assert "which this command reads" in refused(*data, "--out", run)


def test_the_recipe_leaves_a_folder_of_something_else_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "holds something else" in refused("--out", tmp_path, "--from", "embedded", "--threads", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_made(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = ("--train", drawn / "train.json", "--init", tiny_model, "--device", "cpu", "--batch-size", 4)
    assert "cannot write into --out" in refused(*data, "--out", tmp_path / "file" / "run")


def test_flags_of_the_other_training_are_named(tmp_path: Path) -> None:
    assert refused("--out", tmp_path, "--epochs", 3) == (
        "--epochs is for training on your own data; name it with --train."
    )


@pytest.mark.parametrize(
    ("preset", "words"),
    [("flan-t5-xl", "--preset flan-t5-xl needs weights to start from"), ("huge", "unknown preset 'huge'")],
)
def test_presets_with_data(preset: str, words: str, drawn: Path, tmp_path: Path) -> None:
    found = refused("--preset", preset, "--train", drawn / "train.json", "--out", tmp_path / "run", "--device", "cpu")
    assert words in found and not (tmp_path / "run").exists()


def test_presets_without_data(tmp_path: Path) -> None:
    result = invoke("--preset", "flan-t5-xl", "--out", tmp_path / "run")
    assert result.exit_code == 2 and "--train" in result.output
