"""Phrases that mean one object of a drawn scene."""

import pytest

from dynrefer.model.grounding.sentence import read_sentence
from dynrefer.workbench.evaluation.grounding_phrases import KINDS, referring_phrases
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

FIRST_SEED = 4_421_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def scenes(world: World) -> list[Scene]:
    sprites = SpritePack.load()
    return [draw_scene(world, sprites, FIRST_SEED + place, "test") for place in range(14)]


def test_every_kind_occurs_and_only_the_scene_decides(world: World, scenes: list[Scene]) -> None:
    phrases = [referring_phrases(scene, world) for scene in scenes]
    assert {phrase.kind for each in phrases for phrase in each} == set(KINDS)
    assert phrases == [referring_phrases(scene, world) for scene in scenes]


def test_what_is_said_holds_for_the_target_alone(world: World, scenes: list[Scene]) -> None:
    attributes = {"colour": "color", "size": "size"}
    for scene in scenes:
        for phrase in referring_phrases(scene, world):
            if phrase.kind == "relation":
                continue
            said, attribute = phrase.text.split()[1], attributes[phrase.kind]
            fits = [place for place, each in enumerate(scene.objects) if each.attributes.get(attribute) == said]
            fits = fits if phrase.text.endswith(" object") else [phrase.target] * (phrase.target in fits)
            assert fits == [phrase.target]


def test_phrases_are_read_whole(world: World, scenes: list[Scene]) -> None:
    for scene in scenes:
        for phrase in referring_phrases(scene, world):
            first = read_sentence(phrase.text)[0]
            assert first.phrase.span[0] == 0
            assert bool(first.relations) == (phrase.kind == "relation")
            assert bool(first.modifiers) == (phrase.kind != "relation")
