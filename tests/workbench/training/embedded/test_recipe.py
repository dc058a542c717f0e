"""The recipe with few steps: it ends in a model that loads, and an interrupted run ends in the same weights."""

from pathlib import Path

import pytest
import torch

from dynrefer.model import DynRefer
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import build_tokenizers
from dynrefer.workbench.training.embedded import recipe as train
from dynrefer.workbench.training.embedded.caption_forms import control_words
from dynrefer.workbench.training.embedded.drawn_batches import DataOptions, PretrainData, RegionData
from dynrefer.workbench.training.embedded.joint import JointTraining
from dynrefer.workbench.training.embedded.recipe import train_embedded
from dynrefer.workbench.training.embedded.stages import Stage

POOL = (900_000, 4)
RECIPE = (
    Stage("close", "pretrain", 3, 6, 0, 1e-3, 32, seed=1, pool=POOL, warm_up=2),
    Stage("joint", "joint", 4, 0, 2, 1e-3, 64, seed=2, pool=POOL, warm_up=2),
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(train, "_UNSEEN", (900_100, 2))
    monkeypatch.setattr(train, "_CHECKPOINT_EVERY", 2)


class Cut(Exception):
    """Stands in for a kill."""


def weights(run: Path) -> dict[str, torch.Tensor]:
    """In float32, as the last stage left them."""
    module: dict[str, torch.Tensor] = torch.load(run / "joint.done.pt", weights_only=True)["module"]
    return module


@pytest.mark.training
def test_a_run_that_was_cut_off_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_embedded(tmp_path / "whole", recipe=RECIPE, processes=1)
    model = DynRefer.load(whole, device="cpu")
    assert model.card.revision != "untrained" and "synthetic" in model.card.trained_on
    original, calls = JointTraining.losses, 0

    def losses(self: JointTraining, batch: object) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Cut
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(JointTraining, "losses", losses)
    with pytest.raises(Cut):
        train_embedded(tmp_path / "cut", recipe=RECIPE, processes=1)
    monkeypatch.setattr(JointTraining, "losses", original)
    with pytest.raises(FileExistsError, match="--resume"):
        train_embedded(tmp_path / "cut", recipe=RECIPE, processes=1)
    train_embedded(tmp_path / "cut", recipe=RECIPE, processes=1, resume=True)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert one.keys() == two.keys()
    # Up to rounding: a step moves a weight by about the learning rate, 1e-3.
    assert max(float((one[name].float() - two[name].float()).abs().max()) for name in one) < 1e-4


@pytest.fixture(scope="module")
def parts() -> tuple[World, list[object], tuple[object, object]]:
    world, sprites = World.load(), SpritePack.load()
    pool = [draw_scene(world, sprites, 900_000 + i, "train") for i in range(4)]
    return world, pool, build_tokenizers(world)  # type: ignore[return-value]


def test_batches_are_functions_of_their_index(parts) -> None:  # type: ignore[no-untyped-def]
    world, pool, tokenizers = parts
    options = DataOptions(seed=3, crops=5, scenes=2, batches=4, view_size=32)
    first, second = (PretrainData(world, pool, tokenizers, options) for _ in range(2))
    first[0]  # another batch in between changes nothing
    a, b = first[2], second[2]
    assert torch.equal(a.images, b.images) and torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.targets.tags, b.targets.tags)
    assert not torch.equal(first[1].images[:1], a.images[:1])


def test_regions_share_the_whole_image(parts) -> None:  # type: ignore[no-untyped-def]
    world, pool, tokenizers = parts
    batch = RegionData(world, pool, tokenizers, DataOptions(4, 0, 3, 4, 32))[0]
    assert batch.index.shape == batch.boxes.shape[:2] == (len(batch.labels), 3)
    assert int(batch.index.max()) == len(batch.images) - 1
    assert (batch.boxes[:, 0, :2] == 0).all()  # t = 0 first: the region fills its view
    assert (batch.boxes >= 0).all() and (batch.boxes <= 32).all()


def test_control_words_are_dropped_half_of_the_time() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = [control_words("a red dog on grass", ("dog", "animal"), rng) for _ in range(400)]
    assert all(words.endswith("|") for words in drawn)
    empty = sum(words == "|" for words in drawn) / 400
    assert 0.42 < empty < 0.62
    assert {word for words in drawn for word in words[:-1].split(",") if word} == {"red", "dog", "grass", "animal"}


def test_the_language_tokenizer_keeps_captions_whole(parts) -> None:  # type: ignore[no-untyped-def]
    _, pool, (text, language) = parts
    for scene in pool:
        for obj in scene.objects:
            for caption in obj.captions:
                ids = language(caption).input_ids
                assert language.unk_token_id not in ids
                assert language.decode(ids, skip_special_tokens=True) == caption
                assert len(ids) <= 24
                assert text(caption).input_ids[-1] == text.eos_token_id
