"""Whole runs, scaled down: the loss falls, the model serves, bad samples are named, processes and precisions agree."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dynrefer.model import DynRefer
from dynrefer.workbench.errors import SettingError, TrainingError
from dynrefer.workbench.training.run_settings import TrainingSettings
from dynrefer.workbench.training.trainer import TrainingResult, train_on
from tests.workbench.training.conftest import tiny_settings, write_tiny_model
from tests.workbench.training.test_objective import free_port

pytestmark = pytest.mark.training


def log_of(run: Path, group: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["group"] == group]


def finished(settings: TrainingSettings, out: Path) -> TrainingResult:
    result = train_on(settings, out)
    assert result is not None
    return result


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def lively_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With less dropout, so that a few steps show."""
    return write_tiny_model(tmp_path_factory.mktemp("lively") / "tiny", decoder_dropout=0.0)


def test_the_loss_falls_and_the_model_answers(drawn: Path, lively_model: Path, tmp_path: Path) -> None:
    settings = tiny_settings(
        drawn, lively_model, epochs=8, batch_size=8, learning_rate=5e-3, tag_gamma=4.0, unfreeze=("vision", "language"),
        val=drawn / "train.json", log_every=3, validate_every=12,
    )  # fmt: skip
    result = finished(settings, tmp_path)
    log, val = log_of(tmp_path), log_of(tmp_path, "val")
    for name in ("language", "tags", "region_text", "total"):
        assert log[-1][name] < 0.8 * log[0][name], name
    assert val[-1]["total"] < 0.9 * val[0]["total"]
    assert result.losses["total"] == log[-1]["total"]
    found = DynRefer.load(result.model, device="cpu").describe(drawn / "700000.png", [(10, 10, 90, 90)])[0]
    assert found.caption is not None and found.tags is not None and found.attributes and found.categories
    card = json.loads((result.model / "config.json").read_text())
    assert "train.json" in card["trained_on"] and card["calibration"] == {}
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/total", "train/language", "train/samples_per_second", "val/total"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("train/total")] == [line["step"] for line in log]


def test_the_run_directory_says_how_it_was_made(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    finished(tiny_settings(drawn, tiny_model, epochs=1, seed=7), tmp_path)
    (session,) = json.loads((tmp_path / "run.json").read_text())
    assert session["seed"] == 7 and session["process_seeds"] == [7] and session["processes"] == 1
    assert len(session["commit"].removesuffix("+changes")) == 40 or session["commit"].startswith("no checkout")
    assert session["command"] and set(session["versions"]) >= {"python", "torch", "transformers"}
    assert json.loads((tmp_path / "settings.json").read_text())["learning_rate"] == 1e-3
    (report,) = json.loads((tmp_path / "bad_samples.json").read_text())
    assert report["bad"] == {}


def test_what_is_frozen_stays_as_it_was(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    finished(tiny_settings(drawn, tiny_model, epochs=1), tmp_path)
    before, after = load_file(tiny_model / "model.safetensors"), weights(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("vision.", "text.", "query_tokens", "language.model.")
    assert not [name for name in changed if name.startswith(frozen)]
    trained = {name for name in before if not name.startswith(frozen)}
    # A key's bias has no gradient: it shifts all scores of a query alike.
    assert trained - changed <= {name for name in trained if name.endswith("key.bias")}


def test_reading_processes_change_nothing(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        finished(tiny_settings(drawn, tiny_model, epochs=1, workers=workers), tmp_path / name)
    one, two = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("tied", [False, True])
def test_lora_is_merged_into_what_it_was_trained_beside(tied: bool, drawn: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny", tie_language_head=tied)
    result = finished(tiny_settings(drawn, model, epochs=1, lora_rank=2, learning_rate=1e-2), tmp_path / "run")
    before, after = load_file(model / "model.safetensors"), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {n for n in before if n.startswith("language.model.") and not torch.equal(before[n], after[n])}
    words = set() if tied else {"language.model.shared.weight", "language.model.lm_head.weight"}
    assert {n for n in changed if not n.endswith((".q.weight", ".v.weight"))} == words
    assert len(changed) - len(words) == 2 * 6  # q and v: two layers of the encoder, two x two of the decoder
    assert DynRefer.load(result.model, device="cpu").card.parameters > 0


def test_gradient_checkpointing_computes_the_same(drawn: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    for name, on in (("plain", False), ("checkpointed", True)):
        settings = tiny_settings(drawn, model, epochs=1, gradient_checkpointing=on, lora_rank=2)
        finished(settings, tmp_path / name)
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "checkpointed")
    assert max(float((one[name] - two[name]).abs().max()) for name in one if one[name].is_floating_point()) < 1e-5


def test_bf16(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    short = {"epochs": 1, "batch_size": 8, "log_every": 1}
    finished(tiny_settings(drawn, tiny_model, precision="bf16", **short), tmp_path / "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    finished(tiny_settings(drawn, tiny_model, precision="float32", **short), tmp_path / "float32")
    rounded, exact = (log_of(tmp_path / name)[0]["total"] for name in ("bf16", "float32"))
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.05)
    before, after = load_file(tiny_model / "model.safetensors"), weights(tmp_path / "bf16")
    # Bit for bit: the towers are rounded while they work, not in what is written.
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith(("vision.", "language.model.")))


def one_process(rank: int, port: int, settings: TrainingSettings, out: str) -> None:
    """What torchrun starts."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # the parent's, a single process
    os.environ.update(
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)},
        **{"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
    )
    train_on(settings, Path(out))
    torch.distributed.destroy_process_group()


def together(settings: TrainingSettings, out: Path) -> None:
    multiprocessing.start_processes(one_process, (free_port(), settings, str(out)), nprocs=2, start_method="fork")


@pytest.mark.parametrize(
    ("precision", "fsdp"), [("float32", False), ("float32", True), ("bf16", True)], ids=["replicas", "shards", "bf16"]
)
def test_two_processes_learn_what_one_learns(
    precision: str, fsdp: bool, drawn: Path, still_model: Path, tmp_path: Path
) -> None:
    """And go on after a cut, from the shards that they wrote."""
    common = {"epochs": 1, "precision": precision, "clip_norm": 1.0, "checkpoint_every": 2, "learning_rate": 1e-4}
    common |= {"val": drawn / "train.json", "val_limit": 8}
    one = tiny_settings(drawn, still_model, batch_size=8, **common)
    two = tiny_settings(drawn, still_model, batch_size=4, fsdp=fsdp, **common)
    finished(one, tmp_path / "one")
    together(two, tmp_path / "two")
    alone, joined = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert alone.keys() == joined.keys()
    start = load_file(still_model / "model.safetensors")
    moved = [name for name in start if not torch.equal(start[name], alone[name])]
    # Up to rounding. A step moves a weight by about the learning rate, the more so where its gradient is rounding.
    apart = torch.cat([(alone[name] - joined[name]).abs().flatten() for name in moved])
    travelled = torch.cat([(alone[name] - start[name]).abs().flatten() for name in moved])
    assert float(apart.mean()) < (0.02 if precision == "float32" else 0.2) * float(travelled.mean())
    newest = sorted((tmp_path / "two" / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    together(two, tmp_path / "two")
    again = weights(tmp_path / "two")
    assert all(torch.equal(joined[name], again[name]) for name in joined)


def test_shards_with_lora_as_the_full_size_needs_them(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    """bf16 towers, float32 matrices beside them, activations computed twice, passes accumulated."""
    settings = tiny_settings(
        drawn, tiny_model, epochs=1, fsdp=True, lora_rank=2, precision="bf16", gradient_checkpointing=True, accumulate=2
    )  # fmt: skip
    together(settings, tmp_path)
    before, after = load_file(tiny_model / "model.safetensors"), weights(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"language.model.shared.weight", "language.model.lm_head.weight", "fusion.reduce.weight"} <= changed


def test_as_many_processes_as_before(drawn: Path, still_model: Path, tmp_path: Path) -> None:
    settings = tiny_settings(drawn, still_model, epochs=1)
    finished(settings, tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    progress = json.loads((newest / "progress.json").read_text())
    (newest / "progress.json").write_text(json.dumps({**progress, "processes": 4}))
    with pytest.raises(TrainingError, match="4 processes and this run has 1"):
        train_on(settings, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"batch_size": 500}, SettingError, "one step needs 500 regions .* lower --batch-size"),
        ({"fsdp": True}, SettingError, "--fsdp .* torchrun"),
        ({"device": "tpu"}, SettingError, "--device tpu is unknown"),
        ({"preset": "medium"}, SettingError, "--preset medium does not match --init"),
    ],
)
def test_what_cannot_begin(
    changes: dict[str, Any], error: type[Exception], words: str, drawn: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        train_on(tiny_settings(drawn, tiny_model, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_control_words_by_part_of_speech(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = finished(tiny_settings(drawn, tiny_model, epochs=1, controls="part-of-speech"), tmp_path)
    assert result.losses["total"] > 0


def test_a_loss_that_is_no_number_stops_the_run(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = tiny_settings(drawn, tiny_model, learning_rate=1e30, log_every=1)
    with pytest.raises(
        TrainingError, match="no longer a finite number at step .* smaller --learning-rate.* another --out"
    ):
        train_on(settings, tmp_path)


def test_another_vocabulary(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = {"tags": ["dog", "cat"], "attributes": [], "categories": ["dog"]}
    (tmp_path / "vocabulary.json").write_text(json.dumps(words))
    document = json.loads((drawn / "train.json").read_text())
    for region in document["annotations"]:
        region["extra_info"] = {}
    data = tmp_path / "plain.json"
    data.write_text(json.dumps(document))
    settings = tiny_settings(drawn, tiny_model, train=data, images=drawn, vocabulary=tmp_path / "vocabulary.json")
    result = finished(settings, tmp_path / "run")
    assert DynRefer.load(result.model, device="cpu").card.vocabulary["tags"] == ("dog", "cat")
