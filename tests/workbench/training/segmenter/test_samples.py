"""Windows of drawn scenes with exact masks."""

import numpy as np
import pytest
import torch

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.segmenter.samples import MIN_PIXELS, WindowSamples, textured


@pytest.fixture(scope="module")
def photographs() -> PhotographPack:
    return PhotographPack.load()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    world, sprites = World.load(), SpritePack.load()
    return [draw_scene(world, sprites, seed, "train") for seed in range(4)]


def test_a_batch_follows_from_its_index(scenes: list[Scene], photographs: PhotographPack) -> None:
    samples = WindowSamples(scenes, photographs, seed=1, batch_size=6, side=32)
    one, again, other = samples[3], samples[3], samples[4]
    assert one.pixels.shape == one.outer_pixels.shape == (6, 3, 32, 32) and one.mask.shape == (6, 32, 32)
    assert torch.equal(one.pixels, again.pixels) and not torch.equal(one.pixels, other.pixels)
    assert (one.mask.sum(dim=(1, 2)) >= MIN_PIXELS).all()
    assert ((one.placement >= -1e-6) & (one.placement <= 1 + 1e-6)).all()  # within the outer window


def test_some_are_asked_about_with_a_box_around_the_mask(scenes: list[Scene], photographs: PhotographPack) -> None:
    batch = WindowSamples(scenes, photographs, seed=1, batch_size=24, side=32)[0]
    boxed = ~batch.box[:, 0].isnan()
    assert 0 < int(boxed.sum()) < 24
    for box, mask in zip(batch.box[boxed], batch.mask[boxed], strict=True):
        columns = torch.nonzero(mask.any(dim=0))[:, 0]
        assert abs(float(box[0]) * 32 - float(columns[0])) < 6 and abs(float(box[2]) * 32 - float(columns[-1])) < 6


def test_other_surfaces_leave_shapes_alone(scenes: list[Scene], photographs: PhotographPack) -> None:
    scene = scenes[0]
    found = textured(scene, photographs, np.random.default_rng(3))
    assert found.owner is scene.owner and found.image.shape == scene.image.shape
    assert not np.array_equal(found.image, scene.image)
