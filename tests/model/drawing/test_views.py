"""Drawings of views: every one is framed in its colour, and what is said below tells policies apart."""

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.drawing import draw_views
from dynrefer.model.drawing.palette import COLOURS
from dynrefer.model.drawing.views import TILE_SIDE
from dynrefer.model.geometry import Box
from dynrefer.model.views import plan_views
from tests.model.drawing.test_regions import colours_of


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("num_views", [1, 3, 12])
def test_views_are_framed_in_their_colours(mode: str, num_views: int) -> None:
    image = Image.new(mode, (160, 120))
    plan = plan_views(np.asarray(image.convert("RGB")), Box(40, 30, 90, 80), num_views=num_views)
    drawing = draw_views(image, plan, title="a title " * 50)
    assert set(COLOURS[:num_views]) <= colours_of(drawing)
    assert drawing.width >= 720 + min(num_views, 4) * TILE_SIDE


def test_labels_tell_policies_apart() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    box = Box(40, 30, 90, 80)
    searched = plan_views(image, box, num_views=3)
    fixed = plan_views(image, box, num_views=3, views=[view.t for view in searched.views])
    original = Image.fromarray(image)
    first, second = draw_views(original, searched), draw_views(original, fixed)
    assert first.size == second.size and first.tobytes() != second.tobytes()
