"""A training of a few steps on a few scenes: it runs, stops, goes on and is exported; its samples say what is true."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dynrefer.model.loading import model_directory
from dynrefer.model.networks.converse.embedded.files import CONFIG, VOCABULARY, WEIGHTS
from dynrefer.model.networks.converse.embedded.lexicon import CHOICE, END, Lexicon
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.converse import __main__ as command
from dynrefer.workbench.training.converse import asked as asked_module
from dynrefer.workbench.training.converse import perceived as perceived_module
from dynrefer.workbench.training.converse.calibrate import logistic, temperature
from dynrefer.workbench.training.converse.export import export
from dynrefer.workbench.training.converse.perceived import FIRST_SEED, read_perceived
from dynrefer.workbench.training.converse.run import CHECKPOINT, ConverseTraining, loss_of, train
from dynrefer.workbench.training.converse.samples import Samples
from dynrefer.workbench.training.converse.stages import STAGES, without
from dynrefer.workbench.training.converse.words import build_lexicon

pytestmark = pytest.mark.training
SCENES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what is perceived of three scenes, and asked about them."""
    found = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for module in (perceived_module, asked_module):
            patch.setattr(module, "CHUNK", SCENES)
        for first in (FIRST_SEED, perceived_module.FIRST_VALIDATION_SEED):
            perceived_module.perceive(found / command.PERCEIVED, first, SCENES, 1)
            asked_module.ask(found / command.ASKED, first, SCENES, 1)
    return found


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.load(model_directory("embedded"))


@pytest.fixture(scope="module")
def samples(folder: Path, vocabulary: Vocabulary) -> Samples:
    questions = asked_module.read_asked(folder / command.ASKED, FIRST_SEED, SCENES)
    texts = [text for each in questions for text in (*(said for _, said in each.messages), each.answer)]
    lexicon = build_lexicon(World.load(), vocabulary, texts)
    return Samples(read_perceived(folder / command.PERCEIVED, FIRST_SEED, SCENES), questions, lexicon)


def _training(samples: Samples, vocabulary: Vocabulary) -> ConverseTraining:
    return ConverseTraining(command.network_config(samples.lexicon, vocabulary, samples), 0)


def test_what_is_perceived_is_kept_and_read(folder: Path) -> None:
    found = read_perceived(folder / command.PERCEIVED, FIRST_SEED, SCENES)
    assert [each.seed for each in found] == list(range(FIRST_SEED, FIRST_SEED + SCENES))
    for each in found:
        truth = perceived_module.draw(each.seed)
        assert len(each.regions) == len(truth.objects)
        assert each.image.size == (truth.image.shape[1], truth.image.shape[0])
        assert len(each.image.objects) > 0 and each.image.objects.categories.sum(1) == pytest.approx(1, abs=0.02)


def test_samples_write_what_the_question_answers(samples: Samples, vocabulary: Vocabulary) -> None:
    lexicon, kinds = samples.lexicon, set()
    for place, sample in enumerate(samples.samples):
        batch = samples.batch([place], None)
        targets = batch.targets[0][batch.targets[0] >= 0].tolist()
        seen = batch.slots.boxes.shape[1]
        kinds.add(sample.kind)
        if sample.choice >= 0:
            (target,) = targets
            assert sample.words[target - lexicon.size - seen] == CHOICE
            continue
        assert targets[-1] == END
        for target in targets:
            if target >= lexicon.size:  # an object: of the image, or an asked region among the tokens
                key = target - lexicon.size
                assert batch.pointable[0, key]
    assert len(kinds) > 15


def test_the_same_batch_disturbed_twice_is_the_same(samples: Samples) -> None:
    first, second = (samples.batch([0, 1, 2], np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first.slots.boxes, second.slots.boxes) and torch.equal(first.tokens.words, second.tokens.words)


def test_it_learns(samples: Samples, vocabulary: Vocabulary) -> None:
    training = _training(samples, vocabulary)
    batch = samples.batch(list(range(16)), None)
    before = float(loss_of(training.network, batch))
    for _ in range(12):
        training.advance(batch, 1e-3)
    assert float(loss_of(training.network, batch)) < 0.7 * before


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


def test_a_checkpoint_of_another_network_is_refused(samples: Samples, vocabulary: Vocabulary, tmp_path: Path) -> None:
    first = _training(samples, vocabulary)
    first.save(tmp_path / CHECKPOINT)
    config = command.network_config(samples.lexicon, vocabulary, samples)
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
