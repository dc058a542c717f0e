"""Regions on their image: outlines, masks, and a label beside each box; what labels have no room for is in a legend.

Everything is drawn on a copy of the image at a size where lines and text are legible, and is in proportion to it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from dynrefer.model.drawing.annotations import Annotation, figure
from dynrefer.model.drawing.legend import Legend
from dynrefer.model.drawing.overlay import SHADE, WHITE, Overlay, rounded
from dynrefer.model.drawing.palette import PAPER, mark_of, red_green_blue
from dynrefer.model.drawing.placement import nearest_points, place_labels, touches
from dynrefer.model.drawing.typefaces import legible
from dynrefer.model.drawing.typesetting import Type
from dynrefer.model.geometry import ImageSize
from dynrefer.model.masks import RegionMask, bitmap_from_mask
from dynrefer.model.prompts import Polygon, Prompt, Scribble
from dynrefer.model.types import Corners

LEAST_SIDE, MOST_SIDE = 960, 1600  # pixels of the drawn image's longer side
MOST_SHAPE = 4  # a narrower image is stretched to this ratio of its sides
TINT = 75  # of 255: how opaque the tint of a mask is
# Widths of labels that are tried, as parts of the image's width, and how much of the image labels may cover.
_WIDTHS, _MOST_COVERED = (0.42, 0.3, 0.2), 0.16
_FARTHEST = 3.0  # label-heights from its box; farther, numbers alone are clearer

Scale = tuple[float, float]


class Proportions(NamedTuple):
    """Pixels of what is drawn on an image of some size. text: the size of type. line: the width of an outline."""

    text: int
    line: float

    @classmethod
    def of(cls, size: ImageSize) -> "Proportions":
        """Of a drawn image."""
        side = math.sqrt(size[0] * size[1])
        return cls(round(min(max(side / 44, 14), 30)), min(max(side / 260, 2.4), 5.0))


class _Label(NamedTuple):
    """What stands on the image: a number, and a title and a figure unless there is no room for them."""

    number: int
    title: str = ""
    figure: str = ""


def draw_regions(
    image: Image.Image,
    annotations: Sequence[Annotation],
    *,
    size: ImageSize | None = None,
    longest: int = MOST_SIDE,
    legend: bool = True,
) -> Image.Image:
    """Draw regions on an image, numbered from 0 as in an answer, with what is said of each. A new RGB image.

    image: upright, any mode. size: (width, height) of the image that boxes are in pixels of, if it is a smaller copy.
    longest: pixels of the drawn image's longer side at most. legend: whether what is not
    said on the image stands below it, or beside a tall one.
    """
    drawing, scale = legible_copy(image, longest, size)
    proportions = Proportions.of(drawing.size)
    boxes = [scaled(each.box, scale, drawing.size) for each in annotations]
    for index, each in enumerate(annotations):
        if isinstance(each.shape, RegionMask):
            _draw_mask(drawing, each.shape, mark_of(index).colour, proportions.line)
    overlay = Overlay()
    for index in _largest_first(boxes):
        _outline(overlay, annotations[index], boxes[index], index, scale, proportions.line)
    labels, places = _labels(annotations, boxes, drawing.size, proportions)
    _draw_labels(drawing, overlay, labels, places, boxes, proportions)
    told = all(label.title == legible(each.title) for label, each in zip(labels, annotations, strict=True))
    if not annotations or not legend or (told and None not in places and not any(each.lines for each in annotations)):
        return drawing
    written = Legend(annotations, proportions.text)
    if drawing.height > drawing.width:
        return written.beside(drawing)
    return written.below(drawing, LEAST_SIDE)


def draw_shape(drawing: Image.Image, shape: Prompt, scale: Scale, index: int = 0) -> None:
    """Draw what a region was pointed at with on an image that was scaled by these factors, in the region's colour:
    polygons and scribbles as lines, a mask as a tint with its outline."""
    line = Proportions.of(drawing.size).line
    if isinstance(shape, RegionMask):
        _draw_mask(drawing, shape, mark_of(index).colour, line)
    overlay = Overlay()
    _draw_lines(overlay, shape, scale, index, line)
    overlay.onto(drawing)


def legible_copy(
    image: Image.Image, longest: int = MOST_SIDE, original: ImageSize | None = None
) -> tuple[Image.Image, Scale]:
    """A copy as RGB, large enough for lines and text; the factors by which x and y of the original were scaled."""
    width, height = image.size
    factor = min(max(min(LEAST_SIDE, longest) / max(width, height), 1.0), 32.0)
    factor = min(factor, longest / max(width, height))
    least = max(width, height) * factor / MOST_SHAPE
    size = (round(max(width * factor, least)), round(max(height * factor, least)))
    method = Image.Resampling.NEAREST if factor > 4 else Image.Resampling.LANCZOS
    width, height = original or image.size
    return image.convert("RGB").resize(size, method), (size[0] / width, size[1] / height)


def scaled(box: Corners, scale: Scale, size: ImageSize) -> Corners:
    """Box of the image -> of the drawing, at least 3 x 3 and inside."""
    x1, x2 = _span(box[0] * scale[0], box[2] * scale[0], size[0])
    y1, y2 = _span(box[1] * scale[1], box[3] * scale[1], size[1])
    return x1, y1, x2, y2


def _span(low: float, high: float, length: int) -> tuple[float, float]:
    first = min(max(low, 0.0), max(length - 3.0, 0.0))
    return first, min(max(high, first + 3.0), float(length))


def _largest_first(boxes: Sequence[Corners]) -> list[int]:
    """So that no box hides the outline of a smaller one."""
    return sorted(range(len(boxes)), key=lambda place: -_area(boxes[place]))


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _outline(overlay: Overlay, annotation: Annotation, box: Corners, index: int, scale: Scale, width: float) -> None:
    """The shape of a region where it has one, else its box: thinner if that is small, and never beyond the image."""
    if annotation.shape is not None and _draw_lines(overlay, annotation.shape, scale, index, width):
        return
    width = max(1.0, min(width, min(box[2] - box[0], box[3] - box[1]) / 10))
    draw_box(overlay, box, index, width)


def draw_box(overlay: Overlay, box: Corners, index: int, width: float) -> None:
    """The outline of a box, all of it within the box, in the colour of the region with this number."""
    mark, edge = mark_of(index), min(1.3 * width, min(box[2] - box[0], box[3] - box[1]) / 2)
    inner = (box[0] + edge, box[1] + edge, box[2] - edge, box[3] - edge)
    overlay.outline(rounded(inner, 1.5 * width), mark.colour, width, mark.dash)


def _draw_lines(overlay: Overlay, shape: Prompt, scale: Scale, index: int, width: float) -> bool:
    """The lines of a shape; whether it has any that stand for its box."""
    mark, closed = mark_of(index), isinstance(shape, Polygon)
    lines = shape.rings if isinstance(shape, Polygon) else shape.lines if isinstance(shape, Scribble) else ()
    for line in lines:
        points = [(x * scale[0], y * scale[1]) for x, y in zip(line[::2], line[1::2], strict=True)]
        if closed:
            points.append(points[0])
            overlay.area(points, (*red_green_blue(mark.colour), TINT // 2))
        overlay.outline(points, mark.colour, width, mark.dash)
    return closed


def _draw_mask(drawing: Image.Image, mask: RegionMask, colour: str, line: float) -> None:
    """A tint, with a line of the colour around it, and a white one around that."""
    bitmap = Image.fromarray(bitmap_from_mask(mask).astype(np.uint8) * 255)
    inside = bitmap.resize(drawing.size, Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(line / 3))
    inside = inside.point([0] * 64 + list(range(0, 256, 2)) + [255] * 64)  # smooth edges one or two pixels wide
    paint = Image.new("RGB", drawing.size, colour)
    drawing.paste(paint, mask=inside.point([value * TINT // 255 for value in range(256)]))
    reach = 1 + 2 * max(1, round(0.4 * line))
    edge = inside.filter(ImageFilter.MaxFilter(reach))
    around = ImageChops.subtract(edge.filter(ImageFilter.MaxFilter(reach)), edge)
    drawing.paste(Image.new("RGB", drawing.size, PAPER), mask=around)
    drawing.paste(paint, mask=ImageChops.subtract(edge, inside.filter(ImageFilter.MinFilter(reach + 2))))


def _labels(
    annotations: Sequence[Annotation], boxes: Sequence[Corners], size: ImageSize, proportions: Proportions
) -> tuple[list[_Label], list[Corners | None]]:
    """The labels, as wide as there is room for, and their places; numbers alone where words have none."""
    canvas, gap = (float(size[0]), float(size[1])), 1.5 * proportions.line
    kind = Type(proportions.text)
    for part in _WIDTHS:
        labels = [
            _Label(
                index,
                kind.fitted(legible(each.title), part * size[0]),
                "" if each.probability is None else figure(each.probability),
            )
            for index, each in enumerate(annotations)
        ]
        sizes = [_size(label, proportions) for label in labels]
        if sum(width * height for width, height in sizes) > _MOST_COVERED * size[0] * size[1]:
            continue
        places = place_labels(boxes, sizes, canvas, gap)
        if all(_is_near(place, box, proportions) for place, box in zip(places, boxes, strict=True)):
            return labels, places
    labels = [_Label(index) for index in range(len(annotations))]
    return labels, place_labels(boxes, [_size(label, proportions) for label in labels], canvas, gap)


def _is_near(place: Corners | None, box: Corners, proportions: Proportions) -> bool:
    if place is None:
        return False
    (x1, y1), (x2, y2) = nearest_points(place, box)
    return math.hypot(x2 - x1, y2 - y1) <= _FARTHEST * proportions.text


def _pad(proportions: Proportions) -> float:
    return 0.36 * proportions.text


def _size(label: _Label, proportions: Proportions) -> tuple[float, float]:
    """(width, height) of a label's plate."""
    kind, pad = Type(proportions.text), _pad(proportions)
    parts = [Type(proportions.text, bold=True).width(str(label.number))]
    parts += [kind.width(text) for text in (label.title, label.figure) if text]
    return math.ceil(sum(parts) + (len(parts) - 1) * 1.5 * pad + 2 * pad), kind.line_height + 2.0


def _draw_labels(
    drawing: Image.Image,
    overlay: Overlay,
    labels: Sequence[_Label],
    places: Sequence[Corners | None],
    boxes: Sequence[Corners],
    proportions: Proportions,
) -> None:
    """Lines to labels that stand apart from their boxes, plates, and on them the texts."""
    standing = [(label, place, boxes[label.number]) for label, place in zip(labels, places, strict=True) if place]
    line = proportions.line
    for label, place, box in standing:
        if not touches(place, box, 1.5 * line):
            overlay.outline(nearest_points(place, box), mark_of(label.number).colour, max(1.5, 0.6 * line))
    radius = 0.25 * proportions.text
    for label, (x1, y1, x2, y2), _ in standing:
        overlay.plate((x1, y1, x2, y2), SHADE, radius + 1)
        overlay.plate((x1 + 0.7, y1 + 0.7, x2 - 0.7, y2 - 0.7), WHITE, radius)
        overlay.plate((x1 + 1.7, y1 + 1.7, x2 - 1.7, y2 - 1.7), mark_of(label.number).colour, radius)
    overlay.onto(drawing)
    kind, bold = Type(proportions.text), Type(proportions.text, bold=True)
    pad = _pad(proportions)
    for label, (x1, y1, _, _), _ in standing:
        ink, x, number = mark_of(label.number).ink, x1 + pad, str(label.number)
        bold.draw(drawing, (x, y1 + 1), number, ink)
        x += bold.width(number) + 1.5 * pad
        for text in filter(None, (label.title, label.figure)):
            kind.draw(drawing, (x, y1 + 1), text, ink)
            x += kind.width(text) + 1.5 * pad
