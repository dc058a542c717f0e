"""A few drawn scenes, and a finder of a few thousand weights."""

from __future__ import annotations

import pytest

from dynrefer.model.networks.finder.network import FinderConfig
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.finder.samples import FinderSamples
from dynrefer.workbench.training.finder.train import draw_scenes, trained_names

TINY = FinderConfig(widths=(4, 4, 8, 8, 8), neck=8, embedding=8, prototypes=4)


@pytest.fixture(scope="session")
def photographs() -> PhotographPack:
    return PhotographPack.load()


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return draw_scenes(6, 1)


@pytest.fixture(scope="session")
def names() -> tuple[str, ...]:
    return trained_names(World.load())


@pytest.fixture
def samples(scenes: list[Scene], photographs: PhotographPack, names: tuple[str, ...]) -> FinderSamples:
    return FinderSamples(scenes, photographs, names, seed=3, batch_size=4)
