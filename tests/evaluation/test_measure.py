"""The whole measurement with an oracle: what it is right about is what the figures say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.evaluation.measure import HEADLINE, measure
from model.records import Task
from model.training.world import World

from .oracle import Oracle

ELSEWHERE = Path("no such folder")


def test_an_oracle_is_perfect(world: World, oracle: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(oracle, world, scenes_seed=3, art_cache=ELSEWHERE, regions=100)
    result = found.result
    assert list(result)[: len(HEADLINE)] == list(HEADLINE)
    shares = [name for name in HEADLINE if name not in ("cider", "class_unseen_style")]
    assert {result[name] for name in shares} == {1.0} and result["class_heldout_sprites"] == 1.0
    assert result["class_unseen_style"] is None
    assert result["cider"] == result["cider_t0"] > 3.0  # the other wordings are references too
    assert result["standard_errors"].keys() == {*HEADLINE, "cider_t0", "class_heldout_sprites"}
    assert result["standard_errors"]["class"] == 0.0 and result["standard_errors"]["class_unseen_style"] is None
    assert result["calibration_error"]["tags"] == pytest.approx(0.1)
    assert result["regions"]["test"] >= 100 > 60 > result["regions"]["heldout_pairs"] >= 40
    assert result["regions"]["unseen_style"] == 0
    assert (result["model"], result["revision"], result["scenes_seed"]) == ("oracle", "1", 3)
    assert result["world_digest"] == world.digest and result["seconds"] > 0
    json.dumps(result, allow_nan=False)
    # Every score is .9 or .1, and right: the bins promise that and keep 1 and 0; the curves are perfect.
    assert found.curves.reliability["tags"].promised == pytest.approx([0.1, 0.9])
    assert found.curves.reliability["tags"].true.tolist() == [0.0, 1.0]
    assert found.curves.reliability["tags"].error == pytest.approx(result["calibration_error"]["tags"], abs=1e-4)
    assert found.curves.precision_recall["categories"].precision.min() == 1.0
    captured = capsys.readouterr()
    assert captured.out == "" and "class_unseen_style is null" in captured.err


def test_each_figure_sees_its_own_task_and_views(world: World, oracle: Oracle) -> None:
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
    assert result["relation"] == 1.0 and result["cider_t0"] < 1.0 < result["cider"]


def test_the_same_seed_gives_the_same_figures(world: World, oracle: Oracle) -> None:
    once, again = (
        dict(measure(oracle, world, scenes_seed=5, art_cache=ELSEWHERE, regions=40).result) for _ in range(2)
    )
    del once["seconds"], again["seconds"]
    assert once == again
