"""Training steps, stopping and going on, and what is exported."""

from __future__ import annotations

import copy
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.finder.weights import load_files
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.finder import train as training_module
from dynrefer.workbench.training.finder.export import export
from dynrefer.workbench.training.finder.losses import LossWeights
from dynrefer.workbench.training.finder.samples import FinderSamples
from dynrefer.workbench.training.finder.settings import Stage
from dynrefer.workbench.training.finder.train import FinderTraining, main, text_embeddings
from tests.workbench.training.finder.conftest import TINY

ALL = LossWeights(cross_image=0.5, masked_words=0.5)
PLAN = (
    Stage("detector", 3, (32, 64), 1e-3, 4, ALL),
    Stage("masks", 3, (64,), 1e-3, 4, LossWeights(0, 0, 0, 0, 1), frozen=True),
)


@pytest.fixture
def texts(names: tuple[str, ...]) -> Tensor:
    return text_embeddings(names)


def _run(training: FinderTraining, samples: FinderSamples, steps: int) -> None:
    for _ in range(steps):
        if training.step == PLAN[training.stage].steps:
            training.begin(training.stage + 1)
        training.advance(PLAN[training.stage], samples)


def _saved(training: FinderTraining) -> dict[str, object]:
    """The state, through a file."""
    file = io.BytesIO()
    torch.save(training.state(), file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("stopped", [1, 3, 4])
def test_a_resumed_run_has_the_weights_of_one_that_was_not_stopped(
    stopped: int, samples: FinderSamples, texts: Tensor
) -> None:
    whole = FinderTraining(texts, 1, config=TINY, words=True)
    _run(whole, samples, 6)
    first = FinderTraining(texts, 1, config=TINY, words=True)
    _run(first, samples, stopped)
    state = _saved(first)
    second = FinderTraining(texts, 2, config=TINY, words=True)  # other random weights, which must not matter
    second.restore(state)
    _run(second, samples, 6 - stopped)
    assert second.words is not None and whole.words is not None
    for ours, theirs in (
        (second.network.state_dict(), whole.network.state_dict()),
        (second.mean, whole.mean),
        (second.words.state_dict(), whole.words.state_dict()),
    ):
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_steps_lower_the_losses(samples: FinderSamples, texts: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("detector", 60, (64,), 5e-3, 4, ALL)
    training = FinderTraining(texts, 0, config=TINY, words=True)
    batch = samples.batch(0, 64)
    monkeypatch.setattr(samples, "batch", lambda *_, **__: batch)
    losses = [sum(training.advance(stage, samples).values()) for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_a_frozen_stage_changes_the_mask_head_alone(samples: FinderSamples, texts: Tensor) -> None:
    training = FinderTraining(texts, 0, config=TINY)
    before = copy.deepcopy(training.network.state_dict())
    training.advance(PLAN[1], samples)
    training.advance(PLAN[1], samples)
    changed = {n.split(".")[0] for n, v in training.network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"coefficients", "from4", "to4", "prototypes"}


def test_a_checkpoint_of_another_choice_of_words_is_refused(texts: Tensor) -> None:
    with pytest.raises(SettingError, match="masked_words"):
        FinderTraining(texts, 0, config=TINY).restore(FinderTraining(texts, 0, config=TINY, words=True).state())


def test_what_is_exported_loads_and_can_be_trained_on(tmp_path: Path, texts: Tensor) -> None:
    training = FinderTraining(texts, 0)
    torch.save({**training.state(), "names": ["cup", "dog"]}, tmp_path / "checkpoint.pt")
    export(tmp_path, tmp_path / "finder")
    files = load_files(tmp_path / "finder")
    assert files.names == ("cup", "dog")
    pixels = torch.randint(0, 255, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        ours, theirs = training.network.eval()(pixels), files.network(pixels)
    torch.testing.assert_close(theirs.boxes, ours.boxes, atol=0.2, rtol=1e-2)
    other = FinderTraining(texts, 5)
    other.start_from(tmp_path / "finder")
    with torch.inference_mode():
        again = other.network.eval()(pixels)
    torch.testing.assert_close(again.objectness, ours.objectness, atol=0.05, rtol=1e-2)
    with pytest.raises(ConfigError, match="other sizes"):
        FinderTraining(texts, 0, config=TINY).start_from(tmp_path / "finder")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command trains a tiny network for a few steps."""
    plan = (Stage("detector", 2, (32,), 1e-3, 2, LossWeights()), Stage("all", 2, (32,), 1e-3, 2, LossWeights()))
    monkeypatch.setattr(training_module, "stages", lambda scale: plan)
    made = FinderTraining.__init__
    monkeypatch.setattr(
        FinderTraining, "__init__", lambda self, *given, **more: made(self, *given, **{**more, "config": TINY})
    )


def _command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    threads = str(torch.get_num_threads())
    monkeypatch.setattr(sys, "argv", ["train", "--threads", threads, *map(str, arguments)])
    main()


def _coco(folder: Path, category: str = "dog") -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(folder / "one.png")
    document = {
        "images": [{"id": 1, "file_name": "one.png", "width": 80, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 30]}],
        "categories": [{"id": 1, "name": category}],
    }
    (folder / "data.json").write_text(json.dumps(document))
    return folder / "data.json"


@pytest.mark.usefixtures("small")
def test_the_command_trains_on_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    _command(monkeypatch, "--out", run, "--data", _coco(tmp_path), "--with", "masked_words", "--without", "giou")
    output = capsys.readouterr().out
    assert "1 images, 1 regions, 1 with a name" in output
    line = json.loads(output.splitlines()[-1])
    assert {"l1", "masked_words"} < set(line) and not {"giou", "mask"} & set(line)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert (state["stage"], state["step"]) == (1, 2) and "giraffe" in state["names"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("category", "arguments", "message"),
    [("zebrafish tank", [], "names nothing that the model knows"), ("dog", ["--data", "nowhere.json"], "cannot read")],
)
def test_bad_data_is_one_sentence(
    category: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        _command(monkeypatch, "--out", tmp_path / "run", "--data", _coco(tmp_path, category), *arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
