"""The ablation's parts: views, batches, what is left out; and a run of two steps with the committed model's towers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import ablation
from benchmarks.ablation_data import Length, Variant, VariantData, choose_views, cut
from benchmarks.ablation_run import Shared, run_variant
from dynrefer.model.loading import EMBEDDED, load_model
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.drawn_batches import DataOptions

BY_NAME = {variant.name: variant for variant in ablation.VARIANTS}


@pytest.fixture(scope="module")
def world() -> World:
    """The committed world."""
    return World.load()


@pytest.fixture(scope="module")
def pool(world: World) -> list[Scene]:
    """Training scenes."""
    sprites = SpritePack.load()
    return [draw_scene(world, sprites, 300_000_000 + place, "train") for place in range(6)]


def test_views_of_each_variant(pool: list[Scene]) -> None:
    def views(name: str, rule: str) -> list[float]:
        box = pool[0].objects[0].box
        return choose_views(BY_NAME[name], rule, np.random.default_rng(1), pool[0], box)  # type: ignore[arg-type]

    assert views("one crop", "none") == [0.0] and views("two fixed", "fixed") == [0.0, 1.0]
    three, without = views("three random", "random"), views("without t = 0", "random")
    assert three[0] == 0.0 and len(set(three)) == 3 and 0.0 not in without and len(set(without)) == 3
    searched = views("three random", "image prior")
    assert searched[0] == 0.0 and len(views("four random", "image prior")) == 4
    assert views("four random", "image prior")[:3] == searched


def test_the_region_keeps_its_place_where_it_is_no_view_itself(pool: list[Scene]) -> None:
    scene = pool[0]
    views, boxes = cut(scene, scene.objects[0].box, (1.0,), 64)
    height, width = scene.image.shape[:2]
    scale = np.array([64 / width, 64 / height] * 2)
    assert views[0].shape == (3, 64, 64) and boxes[0] == pytest.approx(np.array(scene.objects[0].box) * scale, abs=1.0)


@pytest.mark.training
def test_a_run_of_two_steps(world: World, pool: list[Scene]) -> None:
    loaded = load_model("embedded", device="cpu", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "text_tokenizer")
    regions = RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=41, regions=8)
    shared = Shared(loaded, tokenizer, world, pool, regions)
    length = Length(steps=2, scenes=2, pool=len(pool), regions=8)
    plain = Variant("three random", 3, "random", BY_NAME["three random"].evaluations)
    once, again = (run_variant(plain, 3, length, shared) for _ in range(2))
    assert [record["row"] for record in once] == ["three random views", "three random views + image prior"]
    assert [record["figures"] for record in once] == [record["figures"] for record in again]
    assert once[0]["loss"] == again[0]["loss"] and np.isfinite(once[0]["loss"])
    (mute,) = run_variant(BY_NAME["no language"], 3, length, shared)
    assert "cider" in once[0]["figures"] and "cider" not in mute["figures"] and mute["loss"] < once[0]["loss"]
    options = DataOptions(1, 0, 2, 3, 64)
    batch = VariantData(BY_NAME["without t = 0"], world, pool, (tokenizer, loaded.language_tokenizer), options)[0]
    assert batch.index.shape[1] == batch.boxes.shape[1] == 3 and len(batch.images) == batch.index.numel()


def test_rows_are_means_over_seeds_and_finished_runs_are_kept(tmp_path: Path) -> None:
    name = "two random views"
    runs = [
        {"row": name, "variant": "two random", "seed": seed, "figures": {"class": value, "cider": 2.0}}
        for seed, value in enumerate((0.5, 0.7))
    ]
    cell = ablation.table(runs)[name]["class"]
    assert cell.value == pytest.approx(0.6) and cell.error == pytest.approx(0.1)
    assert len(ablation.draw(ablation.table(runs)).axes) == len(ablation.METRICS)
    store, length = tmp_path / "ablation.json", Length(1, 2, 3, 4)
    assert ablation._kept(store, length, "embedded") == []
    store.write_text(
        json.dumps({"length": {"steps": 1, "scenes": 2, "pool": 3, "regions": 4}, "model": "embedded", "runs": runs})
    )
    assert ablation._kept(store, length, "embedded") == runs
    with pytest.raises(SystemExit, match="another length or model"):
        ablation._kept(store, Length(9, 2, 3, 4), "embedded")
