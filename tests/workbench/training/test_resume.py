"""A run that was killed ends with the weights of one that was not, to the bit."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

from dynrefer.workbench.errors import SettingError, TrainingError
from dynrefer.workbench.training.checkpoint import Checkpoints
from dynrefer.workbench.training.objective import TrainingObjective
from dynrefer.workbench.training.run_directory import RunDirectory
from dynrefer.workbench.training.run_settings import TrainingSettings, flag, resumed_settings
from dynrefer.workbench.training.samples import TrainingBatch
from dynrefer.workbench.training.trainer import train_on
from tests.workbench.training.conftest import command, environment, tiny_settings

pytestmark = pytest.mark.training

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


def test_a_killed_run_resumes_to_the_same_weights(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
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

    stored = RunDirectory.stored_settings(cut)
    assert stored is not None
    train_on(resumed_settings({}, stored), cut)  # the settings are the run's own
    assert json.loads((cut / "run.json").read_text())[1]["first_step"] >= 6
    assert_equal(whole, cut)
    steps = [json.loads(line)["step"] for line in (cut / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))  # what the killed process logged beyond the checkpoint is logged once
    kept = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (whole, cut)]
    assert kept[0] == kept[1] and len(kept[0]) == settings.keep


class Cut(Exception):
    """Stands for the kill."""


def cut_and_resume(settings: TrainingSettings, out: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop within the step after `at`; go on to the end."""
    original = TrainingObjective.forward
    calls = 0

    def forward(self: TrainingObjective, batch: TrainingBatch, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls > 2 * at:  # in the first of the two passes of the next step
            raise Cut
        return original(self, batch, tokens)

    monkeypatch.setattr(TrainingObjective, "forward", forward)
    with pytest.raises(Cut):
        train_on(settings, out)
    (out / "checkpoints" / ".step-00000099.partial").mkdir(parents=True)
    monkeypatch.setattr(TrainingObjective, "forward", original)
    AcceleratorState._reset_state(reset_partial_state=True)
    train_on(settings, out)
    assert json.loads((out / "run.json").read_text())[1]["first_step"] == at // 3 * 3
    assert not list((out / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("at", "workers"), [(1, 0), (4, 0), (7, 0), (4, 2)])
def test_whatever_the_step(
    at: int,
    workers: int,
    drawn: Path,
    tiny_model: Path,
    tmp_path: Path,
    whole_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut before the first checkpoint, just after one, and between two, with what a kill leaves of a checkpoint; also
    where other processes have read some batches ahead."""
    cut_and_resume(tiny_settings(drawn, tiny_model, **{**SHORT, "workers": workers}), tmp_path, at, monkeypatch)
    assert_equal(whole_run, tmp_path)


def test_lora_resumes_to_the_same_weights(
    drawn: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(drawn, tiny_model, **SHORT, lora_rank=2)
    train_on(settings, tmp_path / "whole")
    AcceleratorState._reset_state(reset_partial_state=True)
    cut_and_resume(settings, tmp_path / "cut", 4, monkeypatch)
    assert_equal(tmp_path / "whole", tmp_path / "cut")
    before, after = load_file(tiny_model / "model.safetensors"), weights(tmp_path / "cut" / "model")
    assert any(name.endswith(".q.weight") and not torch.equal(before[name], after[name]) for name in before)


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


def test_changed_annotations_are_refused(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "train.json"
    shutil.copy(drawn / "train.json", data)
    settings = tiny_settings(drawn, tiny_model, **SHORT, train=data, images=drawn)
    begin_and_stop(settings, tmp_path / "run")
    data.write_text(data.read_text() + " ")
    with pytest.raises(TrainingError, match="the file behind --train has changed .* another --out"):
        train_on(settings, tmp_path / "run")


def begin_and_stop(settings: TrainingSettings, out: Path) -> None:
    """Up to the first checkpoint."""
    save = Checkpoints.save

    def stop(*arguments: Any) -> None:
        save(*arguments)
        raise Cut

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Checkpoints, "save", stop)
        train_on(settings, out)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_other_words_are_refused(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The tags' order is what the annotations' indices mean."""
    words = tmp_path / "vocabulary.json"
    shutil.copy(tiny_model / "vocabulary.json", words)
    settings = tiny_settings(drawn, tiny_model, **SHORT, vocabulary=words)
    begin_and_stop(settings, tmp_path / "run")
    document = json.loads(words.read_text())
    words.write_text(json.dumps({**document, "tags": document["tags"][::-1]}))
    with pytest.raises(TrainingError, match="the file behind --vocabulary has changed .* another --out"):
        train_on(settings, tmp_path / "run")


def other_words(model: Path) -> None:
    document = json.loads((model / "vocabulary.json").read_text())
    (model / "vocabulary.json").write_text(json.dumps({**document, "tags": document["tags"][::-1]}))


def other_weights(model: Path) -> None:
    stored = weights(model)
    save_file({name: value * 1.01 for name, value in stored.items()}, model / "model.safetensors", {"format": "pt"})


def other_revision(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "revision": "0123456789ab"}))


@pytest.mark.parametrize("change", [other_words, other_weights, other_revision])
def test_another_start_is_refused(
    change: Callable[[Path], None], drawn: Path, tiny_model: Path, tmp_path: Path
) -> None:  # fmt: skip
    """What is frozen is not in a checkpoint: it would come from the new start."""
    start = shutil.copytree(tiny_model, tmp_path / "start")
    settings = tiny_settings(drawn, start, **SHORT)
    begin_and_stop(settings, tmp_path / "run")
    change(start)
    with pytest.raises(TrainingError, match="the model behind --init has changed .* another --out"):
        train_on(settings, tmp_path / "run")


def test_what_a_run_began_with_is_of_its_first_step(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A session that was killed before any checkpoint decides nothing."""
    settings = tiny_settings(drawn, tiny_model, **SHORT)
    run = RunDirectory(tmp_path, writes=True)
    facts = {"data": {"train": "of a file that was mended since", "init": "another"}}
    run.begin_session(settings.as_json(), facts, 0)
    run.close()
    begin_and_stop(settings, tmp_path)
    assert train_on(settings, tmp_path) is not None


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 100)


@pytest.mark.parametrize("name", ["random-0.pt", "progress.json", ".metadata", "__0_0.distcp"])
@pytest.mark.parametrize("spoil", [Path.unlink, empty, zeros, garbage])
def test_a_spoilt_checkpoint_is_named(
    name: str, spoil: Callable[[Path], object], drawn: Path, tiny_model: Path, tmp_path: Path, whole_run: Path
) -> None:
    """As a machine that lost its power may leave it."""
    shutil.copytree(whole_run, tmp_path / "copy")
    newest = sorted((tmp_path / "copy" / "checkpoints").iterdir())[-1]
    spoil(newest / name)
    with pytest.raises(TrainingError, match=f"{newest.name} cannot be read.*remove it") as caught:
        train_on(tiny_settings(drawn, tiny_model, **SHORT), tmp_path / "copy")
    assert "\n" not in str(caught.value)


def test_a_changed_setting_is_refused(whole_run: Path) -> None:
    stored = RunDirectory.stored_settings(whole_run)
    assert stored is not None
    with pytest.raises(SettingError, match="--batch-size is 3 but the run began with 2"):
        resumed_settings({"batch_size": 3}, stored)
    assert resumed_settings({"batch_size": 2, "log_every": 7}, stored).log_every == 7
