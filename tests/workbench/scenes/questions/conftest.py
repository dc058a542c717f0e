"""Drawn scenes with their questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import Forms, Question
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

FIRST_SEED = 4_430_000_000
SCENES = 30


@dataclass(frozen=True)
class Asked:
    """A question with its scene."""

    scene: Scene
    question: Question


@pytest.fixture(scope="session")
def world() -> World:
    return World.load()


@pytest.fixture(scope="session")
def asked(world: World) -> dict[str, list[Asked]]:
    """By form: training's of scenes of training, the others' of test scenes; "pairs": of scenes of held-out pairs."""
    sprites = SpritePack.load()
    found = {}
    for name, forms, split in (
        ("training", Forms.TRAINING, "train"),
        ("wordings", Forms.WORDINGS, "test"),
        ("skeletons", Forms.SKELETONS, "test"),
        ("pairs", Forms.TRAINING, "heldout_pairs"),
    ):
        scenes = [draw_scene(world, sprites, FIRST_SEED + place, split) for place in range(SCENES)]
        found[name] = [
            Asked(scene, question)
            for scene in scenes
            for question in questions_about(scene, world, np.random.default_rng(scene.seed), forms)
        ]
    return found
