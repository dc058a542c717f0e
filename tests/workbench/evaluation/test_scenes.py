"""The whole evaluation with an oracle: the metrics say what it gets right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation import drawn_regions
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.metrics.scene_metrics import attribute_f1, neighbour_named
from dynrefer.workbench.evaluation.scenes import HEADLINE_METRICS, measure
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World
from tests.workbench.evaluation.oracle import Oracle

pytestmark = pytest.mark.slow

ELSEWHERE = Path("no such folder")


def test_an_oracle_is_perfect(world: World, oracle: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(oracle, world, scenes_seed=3, art_cache=ELSEWHERE, regions=100)
    result = found.result
    assert list(result)[: len(HEADLINE_METRICS)] == list(HEADLINE_METRICS)
    proportions = [name for name in HEADLINE_METRICS if name not in ("cider", "class_unseen_style")]
    assert {result[name] for name in proportions} == {1.0} and result["class_heldout_sprites"] == 1.0
    assert result["class_unseen_style"] is None
    sentence = "@iconify-json/openmoji is not installed; `make art` installs it"
    assert result["notes"] == {"class_unseen_style": sentence}
    assert result["cider"] == result["cider_t0"] > 3.0  # the other wordings are references too
    others = {
        "cider_t0",
        "cider_gain",
        "neighbour_named",
        "class_heldout_sprites",
        "attribute_f1",
        "core_ms_per_region",
    }
    assert result["standard_errors"].keys() == {*HEADLINE_METRICS, *others}
    assert (result["cider_gain"], result["neighbour_named"], result["attribute_f1"]) == (1.0, 0.0, 1.0)
    assert result["core_ms_per_region"] > 0
    assert result["standard_errors"]["class"] == 0.0 and result["standard_errors"]["class_unseen_style"] is None
    assert result["calibration_error"]["tags"] == pytest.approx(0.1)
    assert result["calibration_error_beyond_first_bin"]["tags"] == pytest.approx(0.1)
    assert result["regions"]["test"] >= 100 > 60 > result["regions"]["heldout_pairs"] >= 40
    assert result["regions"]["unseen_style"] == 0
    assert (result["model"], result["revision"], result["scenes_seed"]) == ("oracle", "1", 3)
    assert result["world_digest"] == world.digest and result["seconds"] > 0
    json.dumps(result, allow_nan=False)
    # Every score is .9 or .1 and correct: the bins predict that and observe 1 and 0; the curves are perfect.
    assert found.curves.reliability["tags"].predicted == pytest.approx([0.1, 0.9])
    assert found.curves.reliability["tags"].observed.tolist() == [0.0, 1.0]
    assert found.curves.reliability["tags"].error == pytest.approx(result["calibration_error"]["tags"], abs=1e-4)
    assert found.curves.precision_recall["categories"].precision.min() == 1.0
    captured = capsys.readouterr()
    assert captured.out == "" and f"class_unseen_style is null: {sentence} in {ELSEWHERE}" in captured.err


def test_each_metric_uses_its_own_task_and_views(world: World, oracle: Oracle) -> None:
    # Blind to context in captions at t = 0, to categories of held-out pairs, and to every tag.
    def knows(obj: object, task: Task, views: tuple[float, ...]) -> bool:
        if task is Task.TAGS:
            return False
        if task is Task.CAPTION:
            return max(views) >= 0.4
        return task is Task.ATTRIBUTES or not getattr(obj, "heldout_pair")  # noqa: B009

    oracle.knows = knows
    result = measure(oracle, world, scenes_seed=3, art_cache=ELSEWHERE, regions=60).result
    assert (result["class"], result["class_heldout_pairs"], result["class_heldout_sprites"]) == (
        1.0,
        0.0,
        1.0,
    )
    assert (result["attribute_map"], result["colour_map"], result["tag_f1"]) == (1.0, 1.0, 0.0)
    assert result["cider_gain"] > 1.0
    assert result["relation"] == 1.0 and result["cider_t0"] < 1.0 < result["cider"]


def test_the_same_seed_gives_the_same_metrics(world: World, oracle: Oracle) -> None:
    once, again = (
        dict(measure(oracle, world, scenes_seed=5, art_cache=ELSEWHERE, regions=40).result) for _ in range(2)
    )
    for timed in ("seconds", "core_ms_per_region"):
        del once[timed], again[timed]
    assert once == again


def test_every_set_is_seen_as_jpeg(world: World, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def stored(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
        seen.append(quality)
        return image  # the oracle knows the scenes by their pixels

    monkeypatch.setattr(drawn_regions, "stored_as_jpeg", stored)
    found = measure(oracle, world, scenes_seed=3, art_cache=ELSEWHERE, regions=40, jpeg_quality=75).result
    counts = {name: found["regions"][name] for name in ("test", "heldout_pairs", "heldout_sprites")}
    assert found["jpeg_quality"] == 75 and set(seen) == {75} and len(seen) * 3 <= sum(counts.values())


def test_size_is_of_all_files(world: World, oracle: Oracle, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    for name in ("weights", "tokenizer/words"):
        (tmp_path / name).write_bytes(bytes(500_000))
    found = measure(oracle, world, scenes_seed=3, art_cache=ELSEWHERE, regions=20, directory=tmp_path).result
    assert found["megabytes"] == 1.0


def test_a_neighbour_is_a_second_category(world: World) -> None:
    captions = ["a dog left of another object", "a red dog left of a cat", "a red dog", "nothing at all"]
    assert neighbour_named(world, captions).value == 0.25


def test_attribute_f1_leaves_the_unknown_out(world: World) -> None:
    regions = RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=3, regions=20)
    truth = regions.attributes
    assert (truth == -1).any()
    perfect = np.where(truth == 0, 0.1, 0.9)  # high wherever nothing is known, too
    assert attribute_f1(regions, perfect, 0.5).value == 1.0
    everything = attribute_f1(regions, np.ones(truth.shape), 0.5).value
    present, known = (truth == 1).sum(), (truth >= 0).sum()
    assert everything == pytest.approx(2 * present / (known + present))
