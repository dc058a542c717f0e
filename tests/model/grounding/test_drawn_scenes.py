"""Phrases and names of objects in drawn scenes, by the embedded model."""

import pytest

from dynrefer.model import DynRefer
from dynrefer.workbench.evaluation.grounding_phrases import referring_phrases
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

FIRST_SEED = 4_420_000_000  # nothing is trained or measured on


@pytest.fixture(scope="module")
def model() -> DynRefer:
    return DynRefer.load("embedded")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(World.load(), SpritePack.load(), FIRST_SEED, "test")


def test_the_levels_of_what_is_found_agree(model: DynRefer, scene: Scene) -> None:
    regions = model.detect(scene.image).regions
    assert regions
    for region in regions:
        assert region.phrase and region.category
        assert region.label in (region.category, region.parent)
        assert region.category in region.phrase or (region.parent and region.parent in region.phrase)


def test_phrases_have_their_characters_and_those_of_no_object_say_so(model: DynRefer, scene: Scene) -> None:
    shown = scene.objects[0].category
    assert "dinosaur" not in [each.category for each in scene.objects]
    sentence = f"There is a {shown}\N{EM DASH}and the dinosaur."
    found = model.detect(scene.image, phrase=sentence)
    assert {sentence[slice(*(region.span or ()))] for region in found.regions} == {f"a {shown}"}
    assert [(each.name, sentence[slice(*(each.span or ()))]) for each in found.absent] == [("the dinosaur",) * 2]


def test_phrases_tell_objects_apart(model: DynRefer, scene: Scene) -> None:
    right = []
    for phrase in referring_phrases(scene, World.load())[:4]:
        regions = model.detect(scene.image, phrase=phrase.text).regions
        best = next(region for region in regions if region.span and not region.span[0])
        x1, y1, x2, y2 = scene.objects[phrase.target].box
        right.append(x1 < (best.box[0] + best.box[2]) / 2 < x2 and y1 < (best.box[1] + best.box[3]) / 2 < y2)
    assert sum(right) >= 3
