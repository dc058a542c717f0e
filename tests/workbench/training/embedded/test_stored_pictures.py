"""Pictures that were stored: boxes, determinism, and that an excerpt holds the same pixels as the whole."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import build_tokenizers
from dynrefer.workbench.training.embedded.drawn_batches import DataOptions, PretrainData, RegionData
from dynrefer.workbench.training.embedded.stored_pictures import Storage, draw_storage, excerpt, store

SAME_SIZE = Storage(1.0, Image.Resampling.BICUBIC, 60, 2)


@pytest.fixture(scope="module")
def pool() -> list[Scene]:
    world, sprites = World.load(), SpritePack.load()
    return [draw_scene(world, sprites, 920_000 + i, "train") for i in range(4)]


def test_storage_is_drawn_as_configured() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_storage(rng, 0.6) for _ in range(2000)]
    stored = [storage for storage in drawn if storage is not None]
    assert len(stored) / len(drawn) == pytest.approx(0.6, abs=0.04)
    assert {s.quality for s in stored} == set(range(40, 96)) and {s.subsampling for s in stored} == {0, 2}
    assert all(0.6 <= s.scale <= 3.0 for s in stored)
    assert sum(s.scale != 1.0 for s in stored) / len(stored) == pytest.approx(1 / 3, abs=0.05)
    assert len(Counter(s.filter for s in stored)) == 3


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.37])
def test_boxes_scale_with_the_picture(scale: float, pool: list[Scene]) -> None:
    scene = pool[0]
    received = store(scene, Storage(scale, Image.Resampling.BILINEAR, 80, 0))
    height, width = scene.image.shape[:2]
    assert received.image.shape == (round(height * scale), round(width * scale), 3)
    assert received.image.dtype == np.uint8
    sides = np.array([received.image.shape[1] / width, received.image.shape[0] / height] * 2)
    for old, new in zip(scene.objects, received.objects, strict=True):
        assert new.box == pytest.approx(np.array(old.box) * sides)
        assert (new.category, new.captions) == (old.category, old.captions)


def test_jpeg_changes_pixels_a_little(pool: list[Scene]) -> None:
    received = store(pool[0], SAME_SIZE)
    difference = np.abs(received.image.astype(int) - pool[0].image).mean()
    assert 0.5 < difference < 15
    assert np.array_equal(received.image, store(pool[0], SAME_SIZE).image)


def test_an_excerpt_is_stored_as_in_the_whole_scene(pool: list[Scene]) -> None:
    for scene in pool:
        whole = store(scene, SAME_SIZE)
        for obj in scene.objects:
            part = store(excerpt(scene, obj), SAME_SIZE)
            x1, y1, x2, y2 = (int(value) for value in obj.box)
            px1, py1, px2, py2 = (int(value) for value in part.objects[0].box)
            assert np.array_equal(part.image[py1:py2, px1:px2], whole.image[y1:y2, x1:x2])
            width, height = obj.box[2] - obj.box[0], obj.box[3] - obj.box[1]
            room = part.objects[0].box[0], part.image.shape[1] - part.objects[0].box[2]
            touches = obj.box[0] < 0.1 * width, scene.image.shape[1] - obj.box[2] < 0.1 * width
            assert all(space >= 0.06 * width or edge for space, edge in zip(room, touches, strict=True))
            assert part.image.shape[0] >= height


@pytest.mark.parametrize("cls", [PretrainData, RegionData])
def test_batches_are_functions_of_seed_and_index(cls: type, pool: list[Scene]) -> None:
    world = World.load()
    tokenizers = build_tokenizers(world)
    options = DataOptions(seed=3, crops=6, scenes=3, batches=4, view_size=32, jpeg=0.6, placeholder=True)
    first, second = (cls(world, pool, tokenizers, options) for _ in range(2))
    first[0]
    a, b = first[2], second[2]
    assert torch.equal(a.images, b.images) and torch.equal(a.boxes, b.boxes)
    if cls is RegionData:  # a context view of pretraining may cut an object
        assert (a.boxes >= 0).all() and (a.boxes <= 32).all()
    assert not torch.equal(cls(world, pool, tokenizers, DataOptions(3, 6, 3, 4, 32))[2].images[:1], a.images[:1])


def test_a_scene_that_is_drawn_twice_is_stored_twice(pool: list[Scene]) -> None:
    world = World.load()
    options = DataOptions(seed=1, crops=0, scenes=12, batches=2, view_size=32, jpeg=0.6)
    batch = RegionData(world, pool[:1], build_tokenizers(world), options)[0]
    # The views at t = 0 of one object are of as many pictures as its scene was stored in.
    per_scene = len(pool[0].objects)
    first = {tuple(batch.images[row].flatten().tolist()) for row in batch.index[::per_scene, 0].tolist()}
    assert len(first) > 3
