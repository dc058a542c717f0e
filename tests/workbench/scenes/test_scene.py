"""Drawn scenes: reproducible, correctly labelled, and without held-out content in training."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import MAX_SIDE, MIN_SIDE, SPLITS, Scene, SceneObject, draw_scene
from dynrefer.workbench.scenes.world import World

Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def sprites() -> SpritePack:
    return SpritePack.load()


@pytest.fixture(scope="module")
def scenes(world: World, sprites: SpritePack) -> list[Scene]:
    return [draw_scene(world, sprites, seed, "train") for seed in range(300)]


@pytest.fixture(scope="module")
def objects(scenes: list[Scene]) -> list[SceneObject]:
    return [obj for scene in scenes for obj in scene.objects]


def _gap(a: Box, b: Box) -> float:
    across = max(0.0, a[0] - b[2], b[0] - a[2])
    down = max(0.0, a[1] - b[3], b[1] - a[3])
    return float(np.hypot(across, down))


def test_same_seed_same_scene(world: World, sprites: SpritePack) -> None:
    once, again = (draw_scene(world, sprites, 7, "test") for _ in range(2))
    assert once.image.tobytes() == again.image.tobytes() and once.objects == again.objects
    other = draw_scene(world, sprites, 7, "train")
    assert other.image.shape != once.image.shape or (other.image != once.image).any()


def test_images_and_boxes_keep_their_limits(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width, channels = scene.image.shape
        assert scene.image.dtype == np.uint8 and channels == 3
        assert min(height, width) >= MIN_SIDE and max(height, width) <= MAX_SIDE
        assert 3 <= len(scene.objects) <= 8
        for obj in scene.objects:
            x1, y1, x2, y2 = obj.box
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            assert 0.07 <= max((x2 - x1) / width, (y2 - y1) / height) <= 0.51


def test_boxes_are_tight(world: World, sprites: SpritePack, monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(scene: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
        return np.full((height, width, 3), (255, 0, 255), dtype=np.uint8)

    monkeypatch.setattr("dynrefer.workbench.scenes.scene.draw_background", blank)
    scene = draw_scene(world, sprites, 3, "train")
    drawn = (scene.image != (255, 0, 255)).any(axis=2)
    outside = drawn.copy()
    for obj in scene.objects:
        x1, y1, x2, y2 = (int(edge) for edge in obj.box)
        assert drawn[y1, x1:x2].any() and drawn[y2 - 1, x1:x2].any()
        assert drawn[y1:y2, x1].any() and drawn[y1:y2, x2 - 1].any()
        # Pixels of less than a tenth of their opacity may lie just outside.
        outside[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
    assert not outside.any()


def test_relation_is_to_the_nearest_and_holds(scenes: list[Scene]) -> None:
    for scene in scenes:
        for index, obj in enumerate(scene.objects):
            gaps = {i: _gap(obj.box, other.box) for i, other in enumerate(scene.objects) if i != index}
            assert gaps[obj.neighbour] == min(gaps.values())
            partner = scene.objects[obj.neighbour].box
            holds = {
                "left of": obj.box[2] <= partner[0],
                "right of": obj.box[0] >= partner[2],
                "above": obj.box[3] <= partner[1],
                "below": obj.box[1] >= partner[3],
            }
            assert holds.get(obj.relation, gaps[obj.neighbour] == 0), (scene.seed, index)


def test_no_relation_is_rare_or_common(world: World, objects: list[SceneObject]) -> None:
    counts = Counter(obj.relation for obj in objects)
    assert set(counts) == set(world.relations)
    assert all(0.08 <= number / len(objects) <= 0.25 for number in counts.values())


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_and_test_contain_nothing_held_out(world: World, sprites: SpritePack, split: str) -> None:
    for seed in range(150):
        for obj in draw_scene(world, sprites, seed, split).objects:  # type: ignore[arg-type]
            assert obj.sprite not in world.heldout_sprites and not obj.heldout_sprite
            assert (
                obj.attributes.get("color"),
                obj.category,
            ) not in world.heldout_pairs and not obj.heldout_pair


def test_heldout_splits_hold_nothing_else(world: World, sprites: SpritePack) -> None:
    for seed in range(60):
        for obj in draw_scene(world, sprites, seed, "heldout_pairs").objects:
            assert obj.heldout_pair and not obj.heldout_sprite
        for obj in draw_scene(world, sprites, seed, "heldout_sprites").objects:
            assert obj.heldout_sprite and not obj.heldout_pair


def test_captions_say_relation_and_scene_and_not_the_neighbour(scenes: list[Scene]) -> None:
    for scene in scenes:
        for obj in scene.objects:
            neighbour = scene.objects[obj.neighbour].category
            for caption in obj.captions:
                assert obj.relation in caption and scene.scene in caption and obj.category in caption
                assert 6 <= len(caption.split()) <= 16 and caption == caption.lower()
                rest = caption.replace(obj.category, "")
                assert not re.search(rf"\b{neighbour}\b", rest), caption


def test_articles(objects: list[SceneObject]) -> None:
    for caption in (caption for obj in objects for caption in obj.captions):
        assert not re.search(
            r"\ba [aeio]|\ban [^aeiou]|\ba (glasses|scissors|skis|trousers|grapes|cherries)\b", caption
        )


def test_labels_are_the_worlds(world: World, objects: list[SceneObject]) -> None:
    values = {(a.type, a.value) for a in world.attributes} | {(t, v) for t, vs in world.neutral.items() for v in vs}
    for obj in objects:
        assert set(obj.tags) <= set(world.tags) and len(set(obj.tags)) == len(obj.tags)
        assert set(obj.attributes.items()) <= values
        colour = obj.attributes.get("color")
        if colour:
            assert all(colour in caption for caption in obj.captions) and colour in obj.tags


def test_wrong_seed_or_split_is_refused(world: World, sprites: SpritePack) -> None:
    with pytest.raises(ValueError, match=", ".join(SPLITS)):
        draw_scene(world, sprites, 0, "validation")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seeds are >= 0"):
        draw_scene(world, sprites, -1, "train")


def test_every_pixel_belongs_to_the_object_that_is_seen_there() -> None:
    """An object's own pixels lie in its box, and what is in front of another keeps what they share."""
    world, sprites = World.load(), SpritePack.load()
    pairs = 0
    for seed in range(30):
        scene = draw_scene(world, sprites, seed, "train")
        for index, one in enumerate(scene.objects):
            rows, columns = np.nonzero(scene.visible(index))
            x1, y1, x2, y2 = one.box
            assert x1 <= columns.min() and columns.max() < x2 and y1 <= rows.min() and rows.max() < y2
            if one.relation == "in front of":
                pairs += 1
                behind = scene.objects[one.neighbour]
                assert scene.visible(index)[rows, columns].all() and behind.relation == "behind"
    assert pairs
