"""A run that was killed ends with the weights of one that was not, to the bit."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from model.training.real.errors import SettingError, TrainingError
from model.training.real.objective import TrainingObjective
from model.training.real.run_directory import RunDirectory
from model.training.real.samples import TrainingBatch
from model.training.real.settings import flag, resumed_settings
from model.training.real.trainer import train_on

from .conftest import command, environment, tiny_settings

PATIENCE = 240  # seconds for the first checkpoints of a process on a busy machine
RECIPE: dict[str, Any] = {
    **{"batch_size": 2, "accumulate": 2, "learning_rate": 1e-3, "clip_norm": 1.0, "workers": 0},
    **{"epochs": 3, "checkpoint_every": 3, "log_every": 2},
}
SHORT = {**RECIPE, "epochs": 1}


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def assert_equal(one: Path, two: Path) -> None:
    ours, theirs = weights(one / "model"), weights(two / "model")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_killed_run_goes_on_to_the_same_weights(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = tiny_settings(drawn, tiny_model, **RECIPE)
    train_on(settings, whole)
    started = load_file(tiny_model / "model.safetensors")
    assert any(not torch.equal(value, started[name]) for name, value in weights(whole / "model").items())

    flags = [part for name, value in RECIPE.items() for part in (flag(name), str(value))]
    data = ("--train", str(drawn / "train.json"), "--init", str(tiny_model), "--device", "cpu", "--threads", "1")
    process = subprocess.Popen([*command(*data, *flags), "--out", str(cut)], env=environment(), stderr=subprocess.PIPE)
    end = time.monotonic() + PATIENCE
    while not (cut / "checkpoints" / "step-00000006").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert (cut / "checkpoints" / "step-00000006").exists() and not (cut / "model").exists()

    stored = RunDirectory.stored(cut)
    assert stored is not None
    train_on(resumed_settings({}, stored), cut)  # the settings are the run's own
    assert json.loads((cut / "run.json").read_text())[1]["first_step"] >= 6
    assert_equal(whole, cut)
    steps = [json.loads(line)["step"] for line in (cut / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))  # what the killed process said beyond the checkpoint is said once
    kept = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (whole, cut)]
    assert kept[0] == kept[1] and len(kept[0]) == settings.keep


class Cut(Exception):
    """Stands for the kill."""


@pytest.mark.parametrize("at", [1, 4, 7])
def test_whatever_the_step(
    at: int, drawn: Path, tiny_model: Path, tmp_path: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut before the first checkpoint, just behind one, and between two; with what a kill leaves of a checkpoint."""
    settings = tiny_settings(drawn, tiny_model, **SHORT)
    original = TrainingObjective.forward
    calls = 0

    def forward(self: TrainingObjective, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls > 2 * at:  # in the first of the two passes of the next step
            raise Cut
        return original(self, batch)

    monkeypatch.setattr(TrainingObjective, "forward", forward)
    with pytest.raises(Cut):
        train_on(settings, tmp_path)
    (tmp_path / "checkpoints" / ".step-00000099.partial").mkdir(parents=True)
    monkeypatch.setattr(TrainingObjective, "forward", original)
    train_on(settings, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())[1]["first_step"] == at // 3 * 3
    assert_equal(whole_run, tmp_path)
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.fixture(scope="module")
def whole_run(drawn: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    AcceleratorState._reset_state(reset_partial_state=True)
    train_on(tiny_settings(drawn, tiny_model, **SHORT), folder)
    return folder


def test_a_finished_run_is_written_again_from_its_checkpoint(
    drawn: Path, tiny_model: Path, tmp_path: Path, whole_run: Path
) -> None:
    shutil.copytree(whole_run, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "model")
    train_on(tiny_settings(drawn, tiny_model, **SHORT), tmp_path / "copy")
    assert_equal(whole_run, tmp_path / "copy")


def test_changed_annotations_are_refused(drawn: Path, tiny_model: Path, tmp_path: Path, whole_run: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "copy")
    sessions = json.loads((tmp_path / "copy" / "run.json").read_text())
    sessions[0]["data"]["train"] = "0" * 64
    (tmp_path / "copy" / "run.json").write_text(json.dumps(sessions))
    with pytest.raises(TrainingError, match="--train has changed"):
        train_on(tiny_settings(drawn, tiny_model, **SHORT), tmp_path / "copy")


def test_a_spoilt_checkpoint_is_named(drawn: Path, tiny_model: Path, tmp_path: Path, whole_run: Path) -> None:
    shutil.copytree(whole_run, tmp_path / "copy")
    newest = sorted((tmp_path / "copy" / "checkpoints").iterdir())[-1]
    (newest / ".metadata").unlink()
    with pytest.raises(TrainingError, match=f"{newest.name} cannot be read.*remove it"):
        train_on(tiny_settings(drawn, tiny_model, **SHORT), tmp_path / "copy")


def test_a_changed_setting_is_refused(whole_run: Path) -> None:
    stored = RunDirectory.stored(whole_run)
    assert stored is not None
    with pytest.raises(SettingError, match="--batch-size is 3 but the run began with 2"):
        resumed_settings({"batch_size": 3}, stored)
    assert resumed_settings({"batch_size": 2, "log_every": 7}, stored).log_every == 7
