"""The views that were chosen for a region, or all that could have been: on the image, and beside it as the network sees
them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from dynrefer.model.crops import cut_views
from dynrefer.model.drawing.overlay import Overlay
from dynrefer.model.drawing.palette import INK, PALE_INK, PAPER, mark_of
from dynrefer.model.drawing.regions import draw_box, legible_copy, scaled
from dynrefer.model.drawing.typefaces import legible
from dynrefer.model.drawing.typesetting import Type
from dynrefer.model.explanation import ExplainedView
from dynrefer.model.types import Corners, View, ViewPlan, ViewPolicy

CROP_SIDE, FRAME = 224, 6  # pixels of a crop, and of its frame
TILE_SIDE = CROP_SIDE + 2 * FRAME
TILES_PER_ROW = 4
_GAP, _SIZE = 20, 17  # pixels between what is drawn; of type
_LONGEST = 720  # of the image
_OUTLINE, _REGION = 3.0, 4.0  # widths of the views' outlines on the image, and of the region's
POLICIES = {
    ViewPolicy.IMAGE_PRIOR: "chosen by the image prior",
    ViewPolicy.TASK_PRIOR: "chosen by the task prior",
    ViewPolicy.FIXED: "as given",
}


class _Tile(NamedTuple):
    """A crop with what stands below it. number: of its colour; None for one that was not chosen."""

    crop: Image.Image
    number: int | None
    title: str
    lines: tuple[str, ...]


def draw_views(image: Image.Image, plan: ViewPlan, title: str = "") -> Image.Image:
    """Draw the views of a region: outlined on the image, and beside it side by side as the network sees them.

    image: upright, the one that the plan was made for. Each crop is labelled with its t and, where the image
    prior chose it, with its hash distance (of 64 bits) and gain; the region is outlined in it. Returns a new
    RGB image.
    """
    tiles = [
        _Tile(_crop_with_region(crop, box, index), index, f"t = {view.t:g}", _reasons(plan, index))
        for index, (view, (crop, box)) in enumerate(zip(plan.views, _crops(image, plan), strict=True))
    ]
    return _sheet(image, plan, tiles, f"{title + ': ' if title else ''}{len(tiles)} views, {POLICIES[plan.policy]}")


def draw_candidates(image: Image.Image, plan: ViewPlan, views: Sequence[ExplainedView], title: str = "") -> Image.Image:
    """Draw every view that the hash search compares, as the network would see it, with its hash and distance.

    image: upright, the one that plan and views were made for. The plan's views are framed in colour, as on the image;
    the others are pale. Returns a new RGB image.
    """
    order = [view.t for view in plan.views]
    every = ViewPlan(tuple(View(view.t, view.box) for view in views), plan.policy)
    tiles = []
    for place, (view, (crop, box)) in enumerate(zip(views, _crops(image, every), strict=True)):
        index = order.index(view.t) if view.t in order else None
        gain = "the region itself" if view.gain is None else f"distance {view.distance} of 64, gain {view.gain:.1f}"
        words = f"t = {view.t:g}{'' if index is None else ', chosen'}"
        tiles.append(_Tile(_crop_with_region(crop, box, place), index, words, (str(view.hash), gain)))
    heading = f"{title + ': ' if title else ''}{len(tiles)} views, the framed ones {POLICIES[plan.policy]}"
    return _sheet(image, plan, tiles, heading)


def _sheet(image: Image.Image, plan: ViewPlan, tiles: Sequence[_Tile], heading: str) -> Image.Image:
    """The heading, below it the image with the views' outlines and at its right the tiles in rows."""
    drawing, scale = legible_copy(image, _LONGEST)
    overlay = Overlay()
    for index in reversed(range(len(plan.views))):  # the region last, on top
        width = _OUTLINE if index else _REGION
        draw_box(overlay, scaled(plan.views[index].box, scale, drawing.size), index, width)
    overlay.onto(drawing)
    heads, texts = Type(_SIZE + 3), Type(_SIZE - 2)
    label_height = heads.line_height + 2 * texts.line_height
    columns = min(len(tiles), TILES_PER_ROW)
    top, row_height = 2 * _GAP + heads.line_height, TILE_SIDE + label_height + _GAP
    left = drawing.width + 2 * _GAP
    rows = -(-len(tiles) // columns)
    width = left + columns * (TILE_SIDE + _GAP)
    canvas = Image.new("RGB", (width, top + max(drawing.height + _GAP, rows * row_height)), PAPER)
    canvas.paste(drawing, (_GAP, top))
    heads.draw(canvas, (_GAP, _GAP), heads.fitted(legible(heading), width - 2 * _GAP), INK)
    for place, tile in enumerate(tiles):
        x, y = left + place % columns * (TILE_SIDE + _GAP), top + place // columns * row_height
        canvas.paste(_framed(tile), (x, y))
        heads.draw(canvas, (x, y + TILE_SIDE + 4), tile.title, PALE_INK if tile.number is None else INK)
        for row, line in enumerate(tile.lines):
            texts.draw(canvas, (x, y + TILE_SIDE + 4 + heads.line_height + row * texts.line_height), line, PALE_INK)
    return canvas


def _framed(tile: _Tile) -> Image.Image:
    if tile.number is None:
        pale = Image.blend(tile.crop, Image.new("RGB", tile.crop.size, PAPER), 0.35)
        return ImageOps.expand(pale, FRAME, PAPER)
    return ImageOps.expand(tile.crop, FRAME, mark_of(tile.number).colour)


def _crops(image: Image.Image, plan: ViewPlan) -> list[tuple[Image.Image, Corners]]:
    """Each view as the network sees it, with the region's box in it."""
    batch = cut_views(image.convert("RGB"), plan, CROP_SIDE)
    crops = [Image.fromarray(np.ascontiguousarray(view.transpose(1, 2, 0))) for view in batch.images]
    boxes: list[Corners] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in batch.boxes.tolist()]
    return list(zip(crops, boxes, strict=True))


def _crop_with_region(crop: Image.Image, box: Corners, place: int) -> Image.Image:
    """The region outlined in a crop that shows more than it."""
    if place:
        overlay = Overlay()
        draw_box(overlay, scaled(box, (1.0, 1.0), crop.size), 0, 2.0)
        overlay.onto(crop)
    return crop


def _reasons(plan: ViewPlan, index: int) -> tuple[str, ...]:
    """A view's distance and gain, where it was chosen by them."""
    view = plan.views[index]
    chosen = next((one for one in plan.candidates if one.t == view.t), None)
    if view.t == 0.0:
        return ("the region itself",)
    if plan.policy is ViewPolicy.IMAGE_PRIOR and chosen is not None:
        return (f"distance {chosen.distance} of 64", f"gain {chosen.gain:.1f}")
    return ()
