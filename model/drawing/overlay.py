"""Smooth lines and shapes over an image: drawn several times as large, a band at a time, and scaled down.

Pillow draws lines and shapes without smoothing; its text is smooth, and is drawn on the image itself.
Coordinates: pixels of the image, with fractions; (0, 0) is the top left corner of the first pixel.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from PIL import Image, ImageDraw

from dynrefer.model.drawing.palette import red_green_blue

FINER = 4  # times as large
_BAND = 128  # rows of the image that are drawn at a time: 4,800 x 512 pixels for an image 1,200 wide
WHITE, SHADE = (255, 255, 255, 255), (0, 0, 0, 120)

Point = tuple[float, float]
Colour = str | tuple[int, int, int, int]
Corners = tuple[float, float, float, float]


class _Stroke(NamedTuple):
    """Something to draw between two rows of the image; `draw` is given a function from points to enlarged ones."""

    top: float
    bottom: float
    draw: Callable[[ImageDraw.ImageDraw, Callable[[Sequence[Point]], list[Point]]], None]


class Overlay:
    """Shapes that are drawn in the order in which they were added."""

    def __init__(self) -> None:
        self._strokes: list[_Stroke] = []

    def line(self, points: Sequence[Point], colour: Colour, width: float, dash: Sequence[float] = ()) -> None:
        """A line with round ends and corners. dash: lengths of dashes and gaps in turn, in widths of the line."""
        pieces = dashed(points, [length * width for length in dash]) if dash else [list(points)]
        rgba, half = _rgba(colour), width / 2
        rows = [y for _, y in points]
        radius, across = half * FINER, max(1, round(width * FINER))

        def draw(pen: ImageDraw.ImageDraw, enlarged: Callable[[Sequence[Point]], list[Point]]) -> None:
            for piece in pieces:
                large = enlarged(piece)
                pen.line(large, rgba, across, joint="curve")
                if radius > 1:
                    for x, y in (large[0], large[-1]) if dash else large:
                        pen.ellipse((x - radius, y - radius, x + radius, y + radius), rgba)

        self._strokes.append(_Stroke(min(rows) - half, max(rows) + half, draw))

    def area(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        rgba, rows = _rgba(colour), [y for _, y in points]
        self._strokes.append(
            _Stroke(min(rows), max(rows), lambda pen, enlarged: pen.polygon(enlarged(points), fill=rgba))
        )

    def plate(self, box: Corners, colour: Colour, radius: float) -> None:
        """A filled box with round corners."""
        self.area(rounded(box, radius), colour)

    def outline(self, points: Sequence[Point], colour: str, width: float, dash: Sequence[float] = ()) -> None:
        """A line that is seen on any background: white at both sides, and dark around that. Closed shapes end where
        they begin."""
        self.line(points, SHADE, 2.6 * width)
        self.line(points, WHITE, 2 * width)
        self.line(points, colour, width, dash)

    def onto(self, image: Image.Image) -> None:
        """Draw it all. image: RGB; changed in place."""
        for top in range(0, image.height, _BAND):
            bottom = min(top + _BAND, image.height)
            strokes = [each for each in self._strokes if each.top < bottom and each.bottom > top]
            if not strokes:
                continue
            band = Image.new("RGBA", (image.width * FINER, (bottom - top) * FINER))
            pen = ImageDraw.Draw(band)

            def enlarged(points: Sequence[Point], top: int = top) -> list[Point]:
                return [(x * FINER, (y - top) * FINER) for x, y in points]

            for stroke in strokes:
                stroke.draw(pen, enlarged)
            smooth = band.reduce(FINER)
            image.paste(smooth, (0, top), smooth)


def rounded(box: Corners, radius: float) -> list[Point]:
    """The outline of a box with round corners, closed, clockwise from the end of the top left corner."""
    x1, y1, x2, y2 = box
    radius = max(0.0, min(radius, (x2 - x1) / 2, (y2 - y1) / 2))
    steps = max(1, min(16, math.ceil(radius)))
    points: list[Point] = []
    for x, y, start in ((x2, y1, -90), (x2, y2, 0), (x1, y2, 90), (x1, y1, 180)):
        middle = (x - radius if x == x2 else x + radius, y - radius if y == y2 else y + radius)
        for step in range(steps + 1):
            angle = math.radians(start + 90 * step / steps)
            points.append((middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle)))
    return [*points, points[0]]


def dashed(points: Sequence[Point], lengths: Sequence[float]) -> list[list[Point]]:
    """The dashes of a line. lengths: of a dash, the gap after it, and so on, in pixels; the first dash is first."""
    dashes: list[list[Point]] = [[points[0]]]
    place, left = 0, lengths[0]
    for (x1, y1), (x2, y2) in pairwise(points):
        whole = math.hypot(x2 - x1, y2 - y1)
        done = 0.0
        while whole - done > left:
            done += left
            at = (x1 + (x2 - x1) * done / whole, y1 + (y2 - y1) * done / whole)
            if place % 2 == 0:
                dashes[-1].append(at)
            else:
                dashes.append([at])
            place += 1
            left = lengths[place % len(lengths)]
        left -= whole - done
        if place % 2 == 0 and whole > done:
            dashes[-1].append((x2, y2))
    return [dash for dash in dashes if len(dash) > 1]


def _rgba(colour: Colour) -> tuple[int, int, int, int]:
    return (*red_green_blue(colour), 255) if isinstance(colour, str) else colour
