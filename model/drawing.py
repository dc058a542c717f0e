"""Drawings: described regions on their image, and the views that were chosen for a region.

Everything is drawn on a copy of the image at a size where lines and text are legible, with Pillow's built-in font.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from dynrefer.model.crops import cut_views
from dynrefer.model.explanation import ExplainedView
from dynrefer.model.geometry import ImageSize, IntCorners
from dynrefer.model.masks import RegionMask, bitmap_from_mask
from dynrefer.model.prompts import Polygon, Prompt, Scribble
from dynrefer.model.types import Corners, View, ViewPlan, ViewPolicy

LEAST_SIDE, MOST_SIDE = 640, 1600  # pixels of the drawn image's longer side
MOST_SHAPE = 4  # a narrower image is stretched to this ratio of its sides
CROP_SIDE, FRAME = 224, 5  # pixels of a crop in the drawing of views, and of its frame
TILE_SIDE = CROP_SIDE + 2 * FRAME
TILES_PER_ROW = 4
PAPER, INK, PALE_INK = "white", "#1b1b1f", "#5b5b66"
# Distinguishable with most kinds of colour blindness, and dark enough for white text.
COLOURS = ("#c8371f", "#0067a8", "#00795a", "#8e3a80", "#9a6300", "#3d46b5", "#5d6b1c", "#a3285a")
TINT = 130  # of 255: how opaque the tint of a mask is
NO_SHAPES: Mapping[int, Prompt] = {}
POLICIES = {
    ViewPolicy.IMAGE_PRIOR: "chosen by the image prior",
    ViewPolicy.TASK_PRIOR: "chosen by the task prior",
    ViewPolicy.FIXED: "as given",
}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_descriptions(
    image: Image.Image, regions: Sequence[tuple[Corners, str]], shapes: Mapping[int, Prompt] = NO_SHAPES
) -> Image.Image:
    """Draw numbered boxes on an image and, below it, the text about each.

    regions: (box, text); box xyxy in pixels of the upright `image`, text of any length, wrapped at the
    drawing's width, line breaks kept. shapes: what regions were pointed at with, by place: polygons and scribbles are
    drawn as lines, masks as a tint, files of masks not at all. Returns a new RGB image.
    """
    drawing, scale = _legible(image)
    for index, shape in shapes.items():
        draw_shape(drawing, shape, scale, _colour(index))
    text_size = max(15, round(max(drawing.size) / 50))
    font, margin = text_font(text_size), text_size // 2
    draw = ImageDraw.Draw(drawing)
    for index, (box, _) in enumerate(regions):
        _outline(draw, _scaled(box, scale, drawing.size), _colour(index), max(2, text_size // 6))
    for index, (box, _) in enumerate(regions):  # after all outlines, so that none runs through a number
        _number(draw, _scaled(box, scale, drawing.size), index, font, drawing.size)
    indent = 3 * text_size
    width = max(drawing.width, LEAST_SIDE)
    paragraphs = [wrapped_text(text, font, width - indent - margin) for _, text in regions]
    line = round(text_size * 1.35)
    height = sum(line * len(lines) + margin for lines in paragraphs) + margin if regions else 0
    canvas = Image.new("RGB", (width, drawing.height + height), PAPER)
    canvas.paste(drawing, ((width - drawing.width) // 2, 0))
    draw, top = ImageDraw.Draw(canvas), drawing.height + margin
    for index, lines in enumerate(paragraphs):
        _chip(draw, (margin, top), index, font)
        for row, words in enumerate(lines):
            draw.text((indent, top + row * line), words, INK, font)
        top += line * len(lines) + margin
    return canvas


def draw_shape(drawing: Image.Image, shape: Prompt, scale: tuple[float, float], colour: str) -> None:
    """Draw on an image that was scaled by these factors: polygons and scribbles as lines, a mask as a tint."""
    if isinstance(shape, RegionMask):
        alpha = Image.fromarray(bitmap_from_mask(shape).astype(np.uint8) * TINT).resize(drawing.size)
        drawing.paste(Image.new("RGB", drawing.size, colour), mask=alpha)
        return
    closed = isinstance(shape, Polygon)
    lines = shape.rings if isinstance(shape, Polygon) else shape.lines if isinstance(shape, Scribble) else ()
    draw, width = ImageDraw.Draw(drawing), max(2, max(drawing.size) // 250)
    for line in lines:
        points = [(x * scale[0], y * scale[1]) for x, y in zip(line[::2], line[1::2], strict=True)]
        points += points[:1] * closed
        draw.line(points, PAPER, width + 2, joint="curve")
        draw.line(points, colour, width, joint="curve")


def draw_views(image: Image.Image, plan: ViewPlan, title: str = "") -> Image.Image:
    """Draw the views of a region: outlined on the image, and beside it side by side as the network sees them.

    image: upright, the one that the plan was made for. Each crop is labelled with its t and, where the image
    prior chose it, with its hash distance (of 64 bits) and gain; the region is outlined in it. Returns a new
    RGB image.
    """
    size, gap = 16, 16
    tiles = [_tile(crop, box, index) for index, (crop, box) in enumerate(_crops(image, plan))]
    columns = min(len(tiles), TILES_PER_ROW)
    label_height = round(4.2 * size)
    row_height = TILE_SIDE + label_height + gap
    drawing, scale = _legible(image)
    draw = ImageDraw.Draw(drawing)
    for index in reversed(range(len(plan.views))):  # the region last, on top
        colour = _colour(index)
        _outline(draw, _scaled(plan.views[index].box, scale, drawing.size), colour, 3 if index else 5)
    top = 2 * gap + round(1.3 * size)
    rows = -(-len(tiles) // columns)
    left = drawing.width + 2 * gap
    width = left + columns * (TILE_SIDE + gap)
    canvas = Image.new("RGB", (width, top + max(drawing.height + gap, rows * row_height)), PAPER)
    canvas.paste(drawing, (gap, top))
    draw = ImageDraw.Draw(canvas)
    heading = f"{title + ': ' if title else ''}{len(tiles)} views, {POLICIES[plan.policy]}"
    draw.text((gap, gap), _fitted(heading, text_font(size + 2), width - 2 * gap), INK, text_font(size + 2))
    for index, tile in enumerate(tiles):
        x = left + index % columns * (TILE_SIDE + gap)
        y = top + index // columns * row_height
        canvas.paste(tile, (x, y))
        _label(draw, (x, y + TILE_SIDE + size // 2), plan, index, size)
    return canvas


def draw_candidates(image: Image.Image, plan: ViewPlan, views: Sequence[ExplainedView], title: str = "") -> Image.Image:
    """Draw every view that the hash search compares, as the network would see it, with its hash and distance.

    image: upright, the one that plan and views were made for. The plan's views are framed in colour, as on the image;
    the others are not. Returns a new RGB image.
    """
    size, gap = 16, 16
    order = [view.t for view in plan.views]
    every = ViewPlan(tuple(View(view.t, view.box) for view in views), plan.policy)
    drawing, scale = _legible(image)
    draw = ImageDraw.Draw(drawing)
    for index in reversed(range(len(plan.views))):
        _outline(draw, _scaled(plan.views[index].box, scale, drawing.size), _colour(index), 3 if index else 5)
    columns, row_height = TILES_PER_ROW, TILE_SIDE + 5 * size + gap
    top, left = 2 * gap + round(1.3 * size), drawing.width + 2 * gap
    width, rows = left + columns * (TILE_SIDE + gap), -(-len(views) // columns)
    canvas = Image.new("RGB", (width, top + max(drawing.height + gap, rows * row_height)), PAPER)
    canvas.paste(drawing, (gap, top))
    draw = ImageDraw.Draw(canvas)
    heading = f"{title + ': ' if title else ''}{len(views)} views, the framed ones {POLICIES[plan.policy]}"
    draw.text((gap, gap), _fitted(heading, text_font(size + 2), width - 2 * gap), INK, text_font(size + 2))
    for place, (view, (crop, box)) in enumerate(zip(views, _crops(image, every), strict=True)):
        colour = _colour(order.index(view.t)) if view.t in order else PAPER
        if place:
            _outline(ImageDraw.Draw(crop), _scaled(box, (1.0, 1.0), crop.size), _colour(0), 2)
        x, y = left + place % columns * (TILE_SIDE + gap), top + place // columns * row_height
        canvas.paste(ImageOps.expand(crop, FRAME, colour), (x, y))
        y += TILE_SIDE + size // 2
        chosen = ", chosen" if view.t in order else ""
        draw.text((x, y), f"t = {view.t:g}{chosen}", INK if colour == PAPER else colour, text_font(size + 2))
        gain = "the region itself" if view.gain is None else f"distance {view.distance}, gain {view.gain:.1f}"
        draw.multiline_text((x, y + round(1.4 * size)), f"{view.hash}\n{gain}", PALE_INK, text_font(size - 2))
    return canvas


def _legible(image: Image.Image) -> tuple[Image.Image, tuple[float, float]]:
    """A legible copy as RGB; the factors by which x and y were scaled."""
    width, height = image.size
    factor = min(max(LEAST_SIDE / max(width, height), 1.0), 32.0)
    factor = min(factor, MOST_SIDE / max(width, height))
    least = max(width, height) * factor / MOST_SHAPE
    size = (round(max(width * factor, least)), round(max(height * factor, least)))
    method = Image.Resampling.NEAREST if factor > 4 else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, method), (size[0] / width, size[1] / height)


def _scaled(box: Corners, scale: tuple[float, float], size: ImageSize) -> IntCorners:
    """Box of the image -> drawn pixels, the last one inclusive, at least 3 x 3 and inside."""
    x1, x2 = _span(box[0] * scale[0], box[2] * scale[0], size[0])
    y1, y2 = _span(box[1] * scale[1], box[3] * scale[1], size[1])
    return x1, y1, x2, y2


def _span(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(max(round(low), 0), max(length - 3, 0))
    return first, min(max(round(high) - 1, first + 2), length - 1)


def _outline(draw: ImageDraw.ImageDraw, box: IntCorners, colour: str, width: int) -> None:
    """Outline inwards, between two pale lines that keep it visible on any background; thinner if the box is small."""
    x1, y1, x2, y2 = box
    width = max(1, min(width, (x2 - x1) // 6, (y2 - y1) // 6))
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER)
    draw.rectangle(box, outline=colour, width=width)
    if min(x2 - x1, y2 - y1) > 4 * width:
        draw.rectangle((x1 + width, y1 + width, x2 - width, y2 - width), outline=PAPER)


def _number(draw: ImageDraw.ImageDraw, box: IntCorners, index: int, font: Font, size: ImageSize) -> None:
    """Number a box at its top left corner: inside if it is large enough, else just outside."""
    width, height = _chip_size(index, font)
    x, y, right, bottom = box
    if right - x < 3 * width or bottom - y < 3 * height:
        y = y - height if y >= height else bottom + 1
    _chip(draw, (min(x, size[0] - width), max(min(y, size[1] - height), 0)), index, font)


def _chip_size(index: int, font: Font) -> tuple[int, int]:
    _, _, right, bottom = font.getbbox(f"{index}0")
    return round(right) + 6, round(bottom) + 4


def _chip(draw: ImageDraw.ImageDraw, corner: tuple[int, int], index: int, font: Font) -> None:
    """Draw a region's index, counted from 0 as in the answer, on its colour."""
    width, height = _chip_size(index, font)
    x, y = corner
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_colour(index), outline=PAPER)
    draw.text((x + width / 2, y + height / 2), str(index), "white", font, anchor="mm")


def _crops(image: Image.Image, plan: ViewPlan) -> list[tuple[Image.Image, Corners]]:
    """Each view as the network sees it, with the region's box in it."""
    batch = cut_views(image.convert("RGB"), plan, CROP_SIDE)
    crops = [Image.fromarray(np.ascontiguousarray(view.transpose(1, 2, 0))) for view in batch.images]
    boxes: list[Corners] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in batch.boxes.tolist()]
    return list(zip(crops, boxes, strict=True))


def _tile(crop: Image.Image, box: Corners, index: int) -> Image.Image:
    """Frame a crop in its view's colour, with the region in the region's own."""
    if index:
        _outline(ImageDraw.Draw(crop), _scaled(box, (1.0, 1.0), crop.size), _colour(0), 2)
    return ImageOps.expand(crop, FRAME, _colour(index))


def _label(draw: ImageDraw.ImageDraw, corner: tuple[int, int], plan: ViewPlan, index: int, size: int) -> None:
    """Write a view's t, distance and gain below its crop."""
    view = plan.views[index]
    x, y = corner
    draw.text((x, y), f"t = {view.t:g}", _colour(index), text_font(size + 2))
    chosen = next((one for one in plan.candidates if one.t == view.t), None)
    if view.t == 0.0:
        text = "the region itself"
    elif plan.policy is ViewPolicy.IMAGE_PRIOR and chosen is not None:
        text = f"distance {chosen.distance} / 64\ngain {chosen.gain:.1f}"
    else:
        text = "distance n/a\ngain n/a"
    draw.multiline_text((x, y + round(1.4 * size)), text, PALE_INK, text_font(size - 2))


def wrapped_text(text: str, font: Font, width: int) -> list[str]:
    """Break a text into lines no wider than `width` pixels; a word too long is broken where it must be."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            while font.getlength(word) > width and len(word) > 1:
                if line:
                    lines, line = [*lines, line], ""
                fits = max(1, len(_fitted(word, font, width, ending="")))
                lines, word = [*lines, word[:fits]], word[fits:]
            longer = f"{line} {word}" if line else word
            if font.getlength(longer) <= width:
                line = longer
            else:
                lines, line = [*lines, line], word
        lines.append(line)
    return lines


def _fitted(text: str, font: Font, width: int, ending: str = "...") -> str:
    """Cut a text to `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + ending) > width:
        text = text[:-1]
    return text + ending


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def text_font(size: int) -> Font:
    """Pillow's own font. size: in pixels."""
    return ImageFont.load_default(size)
