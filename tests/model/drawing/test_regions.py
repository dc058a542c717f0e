"""Drawings of regions: of images of every size, with every region marked and named."""

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.drawing import Annotation, draw_regions
from dynrefer.model.drawing.palette import COLOURS
from dynrefer.model.drawing.regions import LEAST_SIDE, MOST_SIDE, Proportions
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.prompts import Polygon, Scribble

GREY = (120, 120, 120)


def colours_of(drawing: Image.Image) -> set[str]:
    values = np.asarray(drawing).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    return {f"#{value:06x}" for value in np.unique(values).tolist()}


@pytest.mark.parametrize("size", [(1, 1), (12, 9), (200, 150), (2000, 10), (10, 500), (640, 426), (6000, 4000)])
def test_regions_at_every_size(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, GREY)
    whole = Annotation((0, 0, *size), "all of it", 0.5)
    drawing = draw_regions(image, [whole, Annotation((0, 0, 1, 1), "a corner")])
    assert LEAST_SIDE <= max(drawing.size) <= 1.7 * MOST_SIDE or max(size) < 30
    assert set(COLOURS[:2]) <= colours_of(drawing)
    assert image.getcolors() == [(size[0] * size[1], GREY)]  # the caller's image is untouched


def test_lines_and_text_are_in_proportion() -> None:
    small, large = Proportions.of((960, 640)), Proportions.of((1600, 1067))
    assert large.text / small.text == pytest.approx(1600 / 960, rel=0.1)
    assert large.line / small.line == pytest.approx(1600 / 960, rel=0.1)


def test_what_is_not_said_on_the_image_is_in_a_legend() -> None:
    image, box = Image.new("RGB", (960, 640), GREY), (10.0, 10.0, 200.0, 200.0)
    assert draw_regions(image, []).size == image.size
    assert draw_regions(image, [Annotation(box, "a dog", 0.9)]).size == image.size
    more = Annotation(box, "a dog", 0.9, (("tags", "dog .98, animal .80"),))
    below = draw_regions(image, [more])
    assert below.width == image.width and below.height > image.height
    assert draw_regions(image, [more], legend=False).size == image.size
    beside = draw_regions(Image.new("RGB", (640, 960), GREY), [more])
    assert beside.height == 960 and beside.width > 640
    long = draw_regions(image, [Annotation(box, "a dog " * 40)])
    assert long.width == image.width and long.height > image.height


def test_crowded_regions_have_numbers_alone() -> None:
    image = Image.new("RGB", (960, 640), GREY)
    boxes = [(x, y, x + 40.0, y + 30.0) for x in range(10, 900, 90) for y in range(20, 600, 120)]
    drawing = draw_regions(image, [Annotation(box, f"a thing with a name {place}") for place, box in enumerate(boxes)])
    assert len(boxes) == 50 and drawing.height > image.height
    assert set(COLOURS) <= colours_of(drawing.crop((0, 0, *image.size)))


@pytest.mark.parametrize("title", ["", "黑猫", "קטה (cat) 3", "قطة", "\x00\n\u202e", "😀", "W" * 500])
def test_any_title_can_be_drawn(title: str) -> None:
    image = Image.new("RGB", (300, 200), GREY)
    draw_regions(image, [Annotation((20, 20, 100, 100), title, 0.3, (("tags", title),))])


def test_shapes_are_drawn_in_their_regions_colours() -> None:
    image = Image.new("RGB", (960, 640), GREY)
    bitmap = np.zeros((640, 960), dtype=bool)
    bitmap[400:600, 400:900] = True
    far = (940.0, 1.0, 950.0, 9.0)
    shapes = [
        Polygon(((100, 100, 200, 100, 150, 180),)),
        mask_from_bitmap(bitmap),
        Scribble(((300, 100, 400, 200),)),
    ]
    pixels = np.asarray(draw_regions(image, [Annotation(far, shape=shape) for shape in shapes], legend=False))
    around = colours_of(Image.fromarray(pixels[90:185, 90:210]))
    assert COLOURS[0] in around and COLOURS[1] not in around
    assert (pixels[500, 650] != GREY).all() and (pixels[300, 600] == GREY).all()
    assert COLOURS[1] in colours_of(Image.fromarray(pixels[390:410, 500:800]))
    assert COLOURS[2] in colours_of(Image.fromarray(pixels[140:160, 340:360]))


def test_an_outline_is_seen_on_its_own_colour_on_white_and_on_black() -> None:
    for background in (COLOURS[0], "#ffffff", "#000000"):
        image = Image.new("RGB", (960, 640), background)
        pixels = np.asarray(draw_regions(image, [Annotation((300, 200, 600, 400), "", None)])).astype(int)
        row = pixels[300, 290:320]  # across the left edge
        assert np.abs(row - pixels[300, 100]).max(axis=1).max() > 100
        assert {COLOURS[0], "#ffffff"} <= colours_of(Image.fromarray(row[None].astype(np.uint8)))
