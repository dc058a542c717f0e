"""An oracle that knows the ground truth of every scene that the evaluation draws."""

from __future__ import annotations

import pytest

from dynrefer.workbench.evaluation import drawn_regions as scenes
from dynrefer.workbench.scenes.world import World
from tests.workbench.evaluation.oracle import Oracle


@pytest.fixture(scope="session")
def world() -> World:
    """The committed world."""
    return World.load()


@pytest.fixture
def oracle(world: World, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """Learns the ground truth of each scene as it is drawn."""
    oracle = Oracle(world)
    draw = scenes.draw_scene
    monkeypatch.setattr(scenes, "draw_scene", lambda *given: oracle.show(draw(*given)))
    return oracle
