"""Folders of corrections of drawn scenes, and runs of a few steps on the tiny model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corrections import whole_truth, write_corrections
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import SceneObject, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.corrections import run as running
from dynrefer.workbench.training.corrections.settings import CorrectionSettings
from tests.workbench.training.conftest import write_tiny_model

SCENES = range(6_100_000_000, 6_100_000_016)
Said = Callable[[SceneObject], Mapping[str, Any]]


def everything(each: SceneObject) -> Mapping[str, Any]:
    """All labels, and a caption."""
    return {**whole_truth(World.load(), each), "caption": each.captions[0]}


def write_folder(folder: Path, said: Said = everything, scenes: range = SCENES) -> Path:
    world, sprites = World.load(), SpritePack.load()
    write_corrections(folder, [draw_scene(world, sprites, seed, "train") for seed in scenes], said)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corrections of 16 scenes, whose images fall into all parts."""
    return write_folder(tmp_path_factory.mktemp("corrections") / "folder")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a language model whose head is tied, so that LoRA changes queries and values alone."""
    return write_tiny_model(tmp_path_factory.mktemp("running") / "tiny", tie_language_head=True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few drawn scenes."""
    monkeypatch.setattr(running, "_REHEARSED", (10, 20))
    monkeypatch.setattr(running, "_CALIBRATING", 10)
    monkeypatch.setattr(running, "_processes", lambda: 1)


def settings(folder: Path, model: Path | str, **changes: Any) -> CorrectionSettings:
    """Of a run of seconds."""
    given: dict[str, Any] = {
        "steps": 3,
        "batch_size": 4,
        "plans": 3,
        "benchmark_regions": 20,
        "held_out": 0.4,
        "device": "cpu",
        **changes,
    }
    found = CorrectionSettings(folder, str(model), **given)
    found.check()
    return found
