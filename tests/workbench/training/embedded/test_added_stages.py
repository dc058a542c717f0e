"""The added stages from the shipped weights: the longer embedding, one run of every kind, resuming, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynrefer.model.loading import EMBEDDED, load_model
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded import recipe as train
from dynrefer.workbench.training.embedded.language import LanguageTraining
from dynrefer.workbench.training.embedded.pretrain import Pretraining
from dynrefer.workbench.training.embedded.recipe import train_embedded
from dynrefer.workbench.training.embedded.stages import ADDED, FROM_RANDOM, RECIPE, varied
from dynrefer.workbench.training.embedded.starting_model import extend_language_embedding, load_starting_model

_SMALL = {"steps": 2, "scenes": 1, "pool": (930_000, 3), "warm_up": 1}
TINY = tuple(
    replace(stage, crops=min(stage.crops, 4), heads_first=min(1, stage.heads_first), **_SMALL)  # type: ignore[arg-type]
    for stage in ADDED
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(train, "_UNSEEN", (930_100, 2))
    monkeypatch.setattr(train, "_CHECKPOINT_EVERY", 1)


def test_the_embedding_grows_by_one_row() -> None:
    network = load_model("embedded", device="cpu", dtype="float32").network
    language = network.language.model
    old = language.get_input_embeddings().weight.detach().clone()
    extend_language_embedding(network, len(old) + 1, torch.Generator().manual_seed(0))
    new = language.get_input_embeddings().weight
    assert torch.equal(new[:-1], old) and torch.isfinite(new[-1]).all()
    assert 0.5 < float(new[-1].std() / old.std()) < 1.5
    assert language.lm_head.weight.data_ptr() == new.data_ptr() == language.encoder.embed_tokens.weight.data_ptr()
    assert network.config.language_config.vocab_size == language.config.vocab_size == len(old) + 1
    extend_language_embedding(network, len(old) + 1, torch.Generator())
    assert len(language.get_input_embeddings().weight) == len(old) + 1
    with pytest.raises(ValueError, match="cannot be cut"):
        extend_language_embedding(network, len(old), torch.Generator())


def test_the_shipped_model_as_a_start() -> None:
    start = load_starting_model("embedded", World.load(), seed=0)
    assert start.tokenizers[1].convert_ids_to_tokens(len(start.tokenizers[1]) - 1) == "\u2581~"
    assert len(start.tokenizers[1]) == start.model.config.language_config.vocab_size
    assert [row.split(" | ")[0] for row in start.stages][:2] == ["| close-32", "| dense-64"]


def test_seeds_vary_the_added_stages_only() -> None:
    assert varied(RECIPE, 0) == RECIPE
    other = varied(RECIPE, 2)
    assert other[: len(FROM_RANDOM)] == FROM_RANDOM
    for a, b in zip(ADDED, other[len(FROM_RANDOM) :], strict=True):
        assert a.seed != b.seed and a.pool[0] != b.pool[0] and replace(b, seed=a.seed, pool=a.pool) == a


class Cut(Exception):
    """Stands in for a kill."""


@pytest.mark.training
def test_every_kind_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_embedded(tmp_path / "whole", recipe=TINY, start="embedded", processes=1)
    config = json.loads((whole / "config.json").read_text())
    shipped = json.loads((EMBEDDED / "config.json").read_text())
    assert config["noun_placeholder"] == "~"
    for kept in ("thresholds", "calibration", "task_priors", "generation"):
        assert config[kept] == shipped[kept]
    loaded = load_model(whole, device="cpu", dtype="float32")
    assert len(loaded.language_tokenizer) == config["language_config"]["vocab_size"]
    card = (whole / "README.md").read_text()
    assert (
        "| all-third | 700 | 16 | 64 | 0.0005 |  |  |" in card
        and "| language | 2 | 1 | 64 | 0.001 | yes | yes |" in card
    )

    original, calls = LanguageTraining.losses, 0

    def losses(self: LanguageTraining, batch: object) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Cut
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(LanguageTraining, "losses", losses)
    with pytest.raises(Cut):
        train_embedded(tmp_path / "cut", recipe=TINY, start="embedded", processes=1)
    monkeypatch.setattr(LanguageTraining, "losses", original)
    for other in ({"start": "embedded", "seed": 1}, {"start": None, "seed": 0}):
        with pytest.raises(SettingError, match="name the same --from and --seed"):
            train_embedded(tmp_path / "cut", recipe=TINY, processes=1, resume=True, **other)
    resumed = train_embedded(tmp_path / "cut", recipe=TINY, start="embedded", processes=1, resume=True)
    assert resumed.is_dir()
    one, two = (
        torch.load(tmp_path / run / "language.done.pt", weights_only=True)["module"] for run in ("whole", "cut")
    )
    assert one.keys() == two.keys()
    # Up to rounding: a step moves a weight by about the learning rate, 1e-3.
    assert max(float((one[name].float() - two[name].float()).abs().max()) for name in one) < 1e-4


@pytest.mark.training
def test_new_heads_learn_on_fixed_towers_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    original = Pretraining.losses

    def losses(self: Pretraining, batch: object) -> dict[str, torch.Tensor]:
        seen.append(next(self.model.vision.parameters()).detach().clone())
        seen.append(self.classifier.weight.detach().clone())
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Pretraining, "losses", losses)
    train_embedded(tmp_path / "run", recipe=(replace(TINY[0], steps=3),), start="embedded", processes=1)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[1], seen[3])  # the first step: heads alone
    assert not torch.equal(seen[2], seen[4])


def test_the_language_stage_trains_nothing_else() -> None:
    network = load_starting_model("embedded", World.load(), seed=0).model
    module = LanguageTraining(network)
    trained = {name.split(".")[1] for name, p in module.named_parameters() if p.requires_grad}
    assert trained == {"language"}
    module.train()
    assert network.language.model.training and not network.vision.training and not network.qformer.training
