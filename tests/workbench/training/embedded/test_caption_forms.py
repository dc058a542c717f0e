"""Every form of control words and caption: what stands in it, how often, and with which article."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import SceneObject, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.caption_forms import (
    draw_form,
    full_form,
    placeholder_caption,
    short_form,
)


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def objects(world: World) -> list[SceneObject]:
    sprites = SpritePack.load()
    return [obj for seed in range(30) for obj in draw_scene(world, sprites, 910_000 + seed, "train").objects]


def test_full_forms(world: World, objects: list[SceneObject]) -> None:
    rng = np.random.default_rng(0)
    names = {category.name for category in world.categories}
    supercategories, empty, wrong = 0, 0, 0
    for obj in objects:
        control, caption = full_form(obj, obj.captions[0], world, rng)
        first, *tags = control.removesuffix("|").split(",")
        assert control.endswith("|") and not control.endswith(".|") and first == "~"
        assert not names & set(tags) and set(tags) <= set(world.tags) and len(set(tags)) == len(tags)
        assert caption.split().count("~") == 1 and obj.category not in caption.split(" another object")[0].split()
        supercategories += world.category(obj.category).supercategory in tags
        empty += not tags
        wrong += bool(set(tags) - set(obj.tags))
    count = len(objects)
    assert 0.25 < supercategories / count < 0.6
    assert 0.01 < empty / count < 0.2 and 0 < wrong / count < 0.2


def test_short_forms_say_the_words_they_are_given(world: World, objects: list[SceneObject]) -> None:
    rng = np.random.default_rng(0)
    phrases = {kind.name: kind.phrase for kind in world.scene_kinds}
    contrary = 0
    for obj in objects:
        control, caption = short_form(obj, world, rng)
        first, *words = control.removesuffix(".|").split(",")
        assert control.endswith(".|") and first == "~"
        said = [phrases.get(word, word) for word in words]
        rest = [phrases[word] for word in words if word in phrases]
        noun = caption.removesuffix(" " + rest[0]) if rest else caption
        assert re.fullmatch(r"an? (?:[a-z-]+ )*~", noun), caption
        assert sorted(noun.split()[1:-1] + rest) == sorted(said)
        assert noun.startswith("an ") == (noun.split()[1][0] in "aeiou")
        contrary += any(word in world.colours and word != obj.attributes.get("color") for word in words)
    assert contrary / len(objects) > 0.2


def test_a_plain_short_form(world: World, objects: list[SceneObject]) -> None:
    rng = np.random.default_rng(1)
    assert ("~.|", "a ~") in {short_form(objects[0], world, rng) for _ in range(60)}


@pytest.mark.parametrize(
    ("name", "attributes", "caption", "expected"),
    [
        ("dog", {"color": "brown"}, "a brown dog on grass left of a dog", "a brown ~ on grass left of a dog"),
        ("apple", {}, "on grass an apple behind another object", "on grass a ~ behind another object"),
        ("apple", {"color": "orange"}, "an orange apple on grass", "an orange ~ on grass"),
        ("scissors", {"size": "large"}, "a pair of large scissors on grass", "a large ~ on grass"),
        ("scissors", {}, "a pair of scissors on grass", "a ~ on grass"),
    ],
)  # fmt: skip
def test_the_article_before_the_placeholder(
    name: str, attributes: dict[str, str], caption: str, expected: str, world: World, objects: list[SceneObject]
) -> None:
    obj = replace(objects[0], category=name, attributes=attributes)
    assert placeholder_caption(caption, world.category(name), obj) == expected


def test_every_caption_of_every_category_takes_the_placeholder(world: World, objects: list[SceneObject]) -> None:
    for obj in objects:
        for caption in obj.captions:
            found = placeholder_caption(caption, world.category(obj.category), obj)
            assert re.search(r"(?<![\w-])an? (?:[a-z-]+ )*~(?![\w-])", found) and "a pair of" not in found
    covered = {obj.category for obj in objects}
    articles = {category.article for category in world.categories if category.name in covered}
    assert articles == {category.article for category in world.categories}


def test_the_mixture(world: World, objects: list[SceneObject]) -> None:
    rng = np.random.default_rng(2)

    def kind(control: str) -> str:
        return "noun" if not control.startswith("~") else "short" if control.endswith(".|") else "full"

    found = Counter(kind(draw_form(obj, obj.captions[1], world, rng)[0]) for obj in objects * 8)
    shares = {name: count / sum(found.values()) for name, count in found.items()}
    assert shares == pytest.approx({"noun": 0.25, "short": 0.3, "full": 0.45}, abs=0.04)


@pytest.mark.parametrize("form", [full_form, None])
def test_an_object_on_no_known_background(
    form: Callable[..., tuple[str, str]] | None, world: World, objects: list[SceneObject]
) -> None:
    obj = replace(objects[0], scene=None, tags=tuple(tag for tag in objects[0].tags if tag not in world.scenes))  # type: ignore[arg-type]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        control, _ = form(obj, obj.captions[0], world, rng) if form else short_form(obj, world, rng)
        assert control.startswith("~")
