"""Tuning: it finds what an oracle prefers, and writes it atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.errors import ConfigError
from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.tune import apply_tuning, tune, view_choices
from tests.workbench.evaluation.oracle import Oracle

BEST = {
    Task.CAPTION: (0.0, 0.4, 1.0),
    Task.TAGS: (0.0, 0.1, 0.4),
    Task.ATTRIBUTES: (0.0, 0.1, 1.0),
    Task.CATEGORIES: (0.0, 0.4, 1.0),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory with a file beside its config."""
    (tmp_path / "config.json").write_text(json.dumps({"name": "x", "calibration": None, "thresholds": {"tags": 0.7}}))
    (tmp_path / "weights").write_text("w")
    return tmp_path


def test_choices_begin_with_the_region() -> None:
    assert view_choices(3, (0.1, 0.4, 1.0)) == ((0.0, 0.1, 0.4), (0.0, 0.1, 1.0), (0.0, 0.4, 1.0))
    assert view_choices(1) == ((0.0,),)


def test_tuning_finds_the_best_views_threshold_and_calibration(directory: Path, oracle: Oracle) -> None:
    def knows(obj: object, task: Task, views: tuple[float, ...]) -> bool:
        return views == BEST[task] or hash(getattr(obj, "box")) % 5 > 0  # noqa: B009

    oracle.knows = knows
    loaded: list[dict[str, Any]] = []

    def load(path: Path) -> Oracle:
        loaded.append(json.loads((path / "config.json").read_text()))
        assert (path / "weights").read_text() == "w"
        return oracle

    before = (directory / "config.json").read_bytes()
    tuning = tune(directory, load, scenes_seed=0, regions=60, steps=(0.1, 0.4, 1.0))
    assert tuning.fragment["task_priors"] == {task.value: list(BEST[task]) for task in BEST}
    assert tuning.quality["categories"]["0, 0.4, 1"] == 1.0 > tuning.quality["categories"]["0, 0.1, 0.4"]
    assert set(tuning.quality) == {"tags", "attributes", "categories", "caption"}
    assert all(0.1 < tuning.fragment["thresholds"][name] < 0.9 for name in ("tags", "attributes"))
    assert set(tuning.fragment["calibration"]) == {"tags", "attributes", "categories"}
    assert (directory / "config.json").read_bytes() == before
    # Captions are compared with the chosen threshold in force: they take up the tags above it.
    assert loaded[0]["thresholds"] == {"tags": 0.7} and loaded[1]["thresholds"] == tuning.fragment["thresholds"]


def test_apply_keeps_other_settings(directory: Path) -> None:
    apply_tuning(directory, {"thresholds": {"tags": 0.6}, "calibration": {"tags": {"scale": 2.0, "bias": 1.0}}})
    apply_tuning(directory, {"calibration": {"categories": {"scale": 3.0, "bias": 0.0}}})
    config = json.loads((directory / "config.json").read_text())
    assert config["name"] == "x" and config["thresholds"] == {"tags": 0.6}
    assert set(config["calibration"]) == {"tags", "categories"}
    assert sorted(entry.name for entry in directory.iterdir()) == ["config.json", "weights"]


def test_apply_refuses_an_unknown_key(directory: Path) -> None:
    before = (directory / "config.json").read_bytes()
    with pytest.raises(ConfigError, match="unknown key 'threshold'"):
        apply_tuning(directory, {"threshold": {"tags": 0.6}})
    assert (directory / "config.json").read_bytes() == before
