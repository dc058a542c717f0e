"""Drawings: made for images of every size, they mark the regions and show every view."""

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.drawing import COLOURS, LEAST_SIDE, MOST_SIDE, TILE_SIDE, draw_descriptions, draw_views
from dynrefer.model.geometry import Box
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.prompts import Polygon, Scribble
from dynrefer.model.views import plan_views

GREY = (120, 120, 120)


def colours_of(drawing: Image.Image) -> set[str]:
    values = np.asarray(drawing).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    return {f"#{value:06x}" for value in np.unique(values).tolist()}


@pytest.mark.parametrize("size", [(1, 1), (12, 9), (2000, 10), (10, 500), (640, 426), (4000, 3000)])
def test_descriptions_at_every_size(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, GREY)
    drawing = draw_descriptions(image, [((0, 0, *size), "all of it"), ((0, 0, 1, 1), "a corner")])
    assert LEAST_SIDE <= max(drawing.size) <= 1.5 * MOST_SIDE or max(size) < 20
    assert set(COLOURS[:2]) <= colours_of(drawing)
    assert image.getcolors() == [(size[0] * size[1], GREY)]  # the caller's image is untouched


def test_long_texts_make_the_drawing_taller_not_wider() -> None:
    image = Image.new("RGB", (640, 426), GREY)
    box = (10.0, 10.0, 200.0, 200.0)
    short = draw_descriptions(image, [(box, "a dog")])
    for text in ("a dog " * 40, "dog" * 80, "a\nb\nc\nd"):
        long = draw_descriptions(image, [(box, text)])
        assert long.width == short.width and long.height > short.height
    assert draw_descriptions(image, []).size == image.size
    assert draw_descriptions(image, [(box, "")]).height <= short.height


def test_shapes_are_drawn_in_their_regions_colours() -> None:
    image = Image.new("RGB", (640, 426), GREY)
    bitmap = np.zeros((426, 640), dtype=bool)
    bitmap[300:400, 300:600] = True
    far = (630.0, 1.0, 638.0, 9.0)
    shapes = {
        0: Polygon(((100, 100, 200, 100, 150, 180),)),
        1: mask_from_bitmap(bitmap),
        2: Scribble(((300, 100, 400, 200),)),
    }
    pixels = np.asarray(draw_descriptions(image, [(far, "")] * 3, shapes))
    colours = {
        f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in pixels[90:185, 90:210].reshape(-1, 3).tolist()
    }
    assert COLOURS[0] in colours and COLOURS[1] not in colours
    assert (pixels[350, 450] != GREY).all() and (pixels[140, 150] == GREY).all()
    assert "#{:02x}{:02x}{:02x}".format(*pixels[150, 350]) == COLOURS[2]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("num_views", [1, 3, 12])
def test_views_are_framed_in_their_colours(mode: str, num_views: int) -> None:
    image = Image.new(mode, (160, 120))
    plan = plan_views(np.asarray(image.convert("RGB")), Box(40, 30, 90, 80), num_views=num_views)
    drawing = draw_views(image, plan, title="a title " * 50)
    assert set(COLOURS[:num_views]) <= colours_of(drawing)
    assert drawing.width >= LEAST_SIDE + min(num_views, 4) * TILE_SIDE


def test_labels_tell_policies_apart() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    box = Box(40, 30, 90, 80)
    searched = plan_views(image, box, num_views=3)
    fixed = plan_views(image, box, num_views=3, views=[view.t for view in searched.views])
    original = Image.fromarray(image)
    first, second = draw_views(original, searched), draw_views(original, fixed)
    assert first.size == second.size and first.tobytes() != second.tobytes()
