"""An oracle that knows every scene the evaluation draws."""

from __future__ import annotations

import pytest

from dynrefer.model.evaluation import scenes
from dynrefer.workbench.scenes.world import World
from tests.evaluation.oracle import Oracle


@pytest.fixture(scope="session")
def world() -> World:
    """The committed world."""
    return World.load()


@pytest.fixture
def oracle(world: World, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """Told the truth of each scene as it is drawn."""
    oracle = Oracle(world)
    draw = scenes.draw_scene
    monkeypatch.setattr(scenes, "draw_scene", lambda *given: oracle.show(draw(*given)))
    return oracle
