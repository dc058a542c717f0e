"""A training of a few steps on a few scenes: it runs, stops, goes on and is exported; its samples say what is true."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dynrefer.model.networks.converse.embedded.files import CONFIG, VOCABULARY, WEIGHTS, load_files
from dynrefer.model.networks.converse.embedded.lexicon import Lexicon
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.training.converse import __main__ as command
from dynrefer.workbench.training.converse import asked as asked_module
from dynrefer.workbench.training.converse import perceived as perceived_module
from dynrefer.workbench.training.converse.calibrate import logistic, temperature
from dynrefer.workbench.training.converse.export import export
from dynrefer.workbench.training.converse.perceived import FIRST_SEED, read_perceived
from dynrefer.workbench.training.converse.run import CHECKPOINT, ConverseTraining, pool, train
from dynrefer.workbench.training.converse.samples import Samples
from dynrefer.workbench.training.converse.stages import STAGES, without
from tests.workbench.training.converse.conftest import SCENES

pytestmark = pytest.mark.training


def _training(samples: Samples, vocabulary: Vocabulary, *, bfloat16: bool = False) -> ConverseTraining:
    return ConverseTraining(command.network_config(vocabulary, samples), 0, bfloat16=bfloat16)


def test_what_is_perceived_is_kept_and_read(folder: Path) -> None:
    found = read_perceived(folder / command.PERCEIVED, FIRST_SEED, SCENES)
    assert [each.seed for each in found] == list(range(FIRST_SEED, FIRST_SEED + SCENES))
    for each in found:
        truth = perceived_module.draw(each.seed)
        assert len(each.regions) == len(truth.objects)
        assert each.image.size == (truth.image.shape[1], truth.image.shape[0])
        assert len(each.image.objects) > 0 and each.image.objects.categories.sum(1) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_it_learns(samples: Samples, vocabulary: Vocabulary, bfloat16: bool) -> None:
    training = _training(samples, vocabulary, bfloat16=bfloat16)
    batch = samples.batch(list(range(16)), None)
    losses = [training.advance(batch, 1e-3) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(each.dtype == torch.float32 for each in training.network.parameters())


def test_it_goes_on_where_it_was_stopped(samples: Samples, vocabulary: Vocabulary, tmp_path: Path) -> None:
    batches = [samples.batch([place, place + 1], np.random.default_rng(place)) for place in range(6)]
    whole, stopped, again = (_training(samples, vocabulary) for _ in range(3))
    for batch in batches:
        whole.advance(batch, 1e-3)
    for batch in batches[:3]:
        stopped.advance(batch, 1e-3)
    stopped.save(tmp_path / CHECKPOINT)
    again.restore(tmp_path / CHECKPOINT)
    for batch in batches[3:]:
        again.advance(batch, 1e-3)
    assert again.step == whole.step
    for name, value in whole.mean.items():
        assert torch.equal(value, again.mean[name]), name


def test_a_run_of_the_command_is_resumed_and_exported(
    folder: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in (command.PERCEIVED, command.ASKED):
        (out / name).symlink_to(folder / name)
    for module in (perceived_module, asked_module):
        monkeypatch.setattr(module, "CHUNK", SCENES)
    given = ["converse", "--out", str(out), "--scenes", "3", "--validation", "3", "--minutes", "0.02"]
    monkeypatch.setattr(sys, "argv", [*given, "--processes", "1", "--without", "dense"])
    command.main()
    assert (out / CHECKPOINT).is_file()
    with pytest.raises(SystemExit):  # it is there already
        command.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--resume"])
    command.main()
    written = export(out, tmp_path / "shipped")
    assert written.name == WEIGHTS and written.stat().st_size < 8_000_000
    config = json.loads((tmp_path / "shipped" / CONFIG).read_text())
    lexicon = Lexicon.load(tmp_path / "shipped" / VOCABULARY, len(vocabulary.categories), len(vocabulary.attributes))
    assert config["network"]["words"] == lexicon.size
    sizes = {name: config["network"][name] for name in ("categories", "attributes", "tags", "channels")}
    assert load_files(tmp_path / "shipped", sizes).lexicon.words == lexicon.words


def test_a_checkpoint_of_another_network_is_refused(samples: Samples, vocabulary: Vocabulary, tmp_path: Path) -> None:
    first = _training(samples, vocabulary)
    first.save(tmp_path / CHECKPOINT)
    config = command.network_config(vocabulary, samples)
    other = ConverseTraining(type(config)(**{**config.__dict__, "layers": 2}), 0)
    with pytest.raises(SettingError, match="other sizes"):
        other.restore(tmp_path / CHECKPOINT)


def test_stages_share_out_all_of_the_time() -> None:
    assert sum(stage.share for stage in STAGES) == pytest.approx(1)
    kept = without(["alignment"])
    assert [stage.name for stage in kept] == ["dense", "instructions"]
    assert sum(stage.share for stage in kept) == pytest.approx(1)


def test_a_stage_that_is_over_trains_nothing(samples: Samples, vocabulary: Vocabulary, tmp_path: Path) -> None:
    training = _training(samples, vocabulary)
    train(training, samples, STAGES, 0.0, tmp_path)
    assert training.stage == len(STAGES) - 1 and training.step == 0 and (tmp_path / CHECKPOINT).is_file()


def test_calibration_finds_what_made_the_answers() -> None:
    random = np.random.default_rng(0)
    values = random.normal(-0.5, 0.5, 4000)
    right = random.random(4000) < 1 / (1 + np.exp(-(3 * values + 2)))
    slope, offset = logistic(values.tolist(), right.tolist())
    assert slope == pytest.approx(3, abs=0.4) and offset == pytest.approx(2, abs=0.3)
    logits = random.normal(0, 2, (4000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    places = [int(random.choice(3, p=row)) for row in chances]
    assert temperature([(row * 2, place) for row, place in zip(logits, places, strict=True)]) == pytest.approx(
        2, abs=0.3
    )


def test_hard_kinds_are_asked_more_often(samples: Samples) -> None:
    (*_, last) = STAGES
    often = replace(last, often={Kind.COUNT: 3})
    plain, more = (
        Counter(place for own in pool(samples, stage, 0).values() for place in own)
        for stage in (replace(last, often={}), often)
    )
    assert plain.keys() == more.keys() and set(plain.values()) == {1}
    for place, times in more.items():
        assert times == (3 if samples.samples[place].kind == Kind.COUNT else 1)
    assert 3 in more.values()
