"""What is seen of a drawing, by the models that ship."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.networks.converse.embedded.embedded import EmbeddedConverser
from dynrefer.model.networks.converse.embedded.perception import Perceiver
from dynrefer.model.networks.converse.embedded.seen import SeenObjects
from dynrefer.model.predictor import DynRefer
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World

SEED = 7_000_000_004  # of a scene that nothing was trained on, measured on or calibrated by
PHOTOGRAPH = 1.0


@pytest.fixture(scope="module")
def perceiver() -> Perceiver:
    model = DynRefer.load("embedded", device="cpu")
    found = model._converser
    assert isinstance(found, EmbeddedConverser)
    return found.perceiver


def test_a_drawing_and_its_mirror_image_show_the_same(perceiver: Perceiver) -> None:
    pixels = draw_scene(World.load(), SpritePack.load(), SEED, "train").image
    size = (pixels.shape[1], pixels.shape[0])
    box = [40.0, 30.0, 90.0, 100.0]
    turned = [size[0] - box[2], box[1], size[0] - box[0], box[3]]
    mirrored = np.ascontiguousarray(pixels[:, ::-1])

    def both(photograph: float) -> tuple[SeenObjects, SeenObjects]:
        first = perceiver.regions(pixels, size, [box], photograph)
        return first, perceiver.regions(mirrored, size, [turned], photograph)

    one, other = both(0.0)
    assert np.allclose(one.categories, other.categories, atol=1e-4)
    assert np.allclose(one.attributes, other.attributes, atol=1e-4)
    assert np.allclose(one.features, other.features, atol=1e-4)
    assert one.categories.sum() == pytest.approx(1)
    one, other = both(PHOTOGRAPH)  # photographs are seen once, and named by other networks
    assert not np.allclose(one.features, other.features, atol=1e-4)
