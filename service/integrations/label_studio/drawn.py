"""Regions as Label Studio writes them, in results -> what the service is asked, and their boxes in pixels.

Coordinates are parts of a hundred of the upright image's width and height. A rotation is in degrees, clockwise on the
screen, around the upper left corner of a rectangle and the centre of an ellipse.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model import Corners, RegionMask
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.label_studio.brushes import MOST_RUNS, Brush, BrushError, read_brush
from dynrefer.service.integrations.label_studio.labeling import SHAPES, Labeling

KINDS = {tag.lower(): kind for tag, (kind, _) in SHAPES.items()}
ELLIPSE_POINTS = 32  # of the polygon that stands for one
MOST_SIDE = 1 << 20
MOST_BRUSHES = 8  # masks of the largest image that brushes may be in all: what comes after them takes time for each

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A region that somebody drew. item: the result that draws it, as it came. kind: as of `labeling.Shape`.

    ring: its corners or points, in parts of a hundred; of a brush empty, and then there are a `mask`, as run lengths
    because many may be large, and its bounds in pixels, None where it is empty. straight: whether it is a rectangle
    that is not rotated.
    """

    id: str
    item: Mapping[str, Any]
    kind: str
    ring: tuple[Point, ...] = ()
    mask: RegionMask | None = None
    bounds: Corners | None = None
    straight: bool = False

    @property
    def prompt(self) -> dict[str, Any]:
        """A region of a request whose coordinates are "percent"."""
        if self.mask is not None:
            return {"mask": {"size": list(self.mask.size), "counts": self.mask.counts}}
        if self.kind == "keypoint":
            return {"points": [{"x": x, "y": y} for x, y in self.ring]}
        if self.straight:
            return {"box": list(_bounds(self.ring))}
        return {"polygon": [list(point) for point in self.ring]}

    def box(self, width: int, height: int) -> Corners | None:
        """Its bounds in pixels of the upright image, whose size is given; None of a single point."""
        if self.kind == "keypoint":
            return None
        if self.mask is not None:
            return self.bounds
        x1, y1, x2, y2 = _bounds(self.ring)
        return x1 * width / 100, y1 * height / 100, x2 * width / 100, y2 * height / 100


def drawn_regions(results: object, labeling: Labeling, max_pixels: int) -> list[Drawn]:
    """Those among results that draw something on the image; others, such as choices, belong to one of them.

    Raises InvalidRequestError for one whose numbers make no sense; its pointer is into the list.
    """
    if not isinstance(results, list):
        return []
    found: dict[str, Drawn] = {}
    brush_pixels, runs_left = 0, MOST_RUNS
    for place, item in enumerate(results):
        if not isinstance(item, dict) or item.get("to_name") != labeling.image:
            continue
        kind, name = KINDS.get(str(item.get("type"))), str(item.get("id") or place)
        if kind is None or name in found:
            continue
        if kind != "brush":
            found[name] = _drawn(name, item, kind, f"/{place}")
            continue
        brush = _brush(name, item, f"/{place}", max_pixels, runs_left)
        brush_pixels += brush.mask.size[0] * brush.mask.size[1]
        if brush_pixels > MOST_BRUSHES * max_pixels:
            detail = f"The masks of the brushes have more than {MOST_BRUSHES * max_pixels} pixels in all."
            raise InvalidRequestError.at(f"/{place}", detail)
        found[name] = Drawn(name, item, kind, mask=brush.mask, bounds=brush.bounds)
        runs_left -= brush.num_runs
    return list(found.values())


def brush_pixels(results: Sequence[object], labeling: Labeling) -> int:
    """Of the masks of all brushes among results, as they say it themselves: before anything is read."""
    sizes = [
        (item.get("original_width"), item.get("original_height"))
        for item in results
        if isinstance(item, dict)
        and item.get("to_name") == labeling.image
        and KINDS.get(str(item.get("type"))) == "brush"
    ]
    return sum(width * height for width, height in sizes if type(width) is int and type(height) is int)


def _drawn(name: str, item: Mapping[str, Any], kind: str, at: str) -> Drawn:
    value = _value_of(name, item, at)
    if kind == "polygon":
        return Drawn(name, item, kind, _pairs(value.get("points"), f"{at}/value/points"))
    x, y = _number(value, "x", at), _number(value, "y", at)
    if kind == "keypoint":
        return Drawn(name, item, kind, ((x, y),))
    turned = _number(value, "rotation", at, 0.0)
    if kind == "rectangle":
        width, height = _number(value, "width", at), _number(value, "height", at)
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        return Drawn(name, item, kind, _turned(corners, (x, y), turned, item, at), straight=not turned)
    across, down = _number(value, "radiusX", at), _number(value, "radiusY", at)
    angles = [2 * math.pi * part / ELLIPSE_POINTS for part in range(ELLIPSE_POINTS)]
    around = [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]
    return Drawn(name, item, kind, _turned(around, (x, y), turned, item, at))


def _turned(
    points: Sequence[Point], centre: Point, degrees: float, item: Mapping[str, Any], at: str
) -> tuple[Point, ...]:
    """Rotated where the pixels are square, which parts of a hundred are not."""
    if not degrees:
        return tuple(points)
    width, height = image_size(item, at)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = []
    for x, y in points:
        right, down = (x - centre[0]) * width, (y - centre[1]) * height
        turned.append((centre[0] + (right * cos - down * sin) / width, centre[1] + (right * sin + down * cos) / height))
    return tuple(turned)


def image_size(item: Mapping[str, Any], at: str = "") -> tuple[int, int]:
    """Width and height of the upright image, as a result says them. Raises InvalidRequestError."""
    size = item.get("original_width"), item.get("original_height")
    if not all(type(side) is int and 0 < side < MOST_SIDE for side in size):
        raise InvalidRequestError.at(f"{at}/original_width", "A result needs the image's original_width and _height.")
    return size  # type: ignore[return-value]  # both are whole numbers


def _value_of(name: str, item: Mapping[str, Any], at: str) -> dict[str, Any]:
    value = item.get("value")
    if not isinstance(value, dict):
        raise InvalidRequestError.at(f"{at}/value", f"The region '{printable(name)}' has no value.")
    return value


def _brush(name: str, item: Mapping[str, Any], at: str, max_pixels: int, max_runs: int) -> Brush:
    value, (width, height) = _value_of(name, item, at), image_size(item, at)
    runs = value.get("rle")
    if value.get("format", "rle") != "rle" or not isinstance(runs, list):
        raise InvalidRequestError.at(f"{at}/value/rle", "A brush's region needs the member rle, a list of bytes.")
    try:
        return read_brush(runs, width, height, max_pixels, max_runs)
    except BrushError as error:
        raise InvalidRequestError.at(f"{at}/value/rle", f"The brush's list {error}.") from None


def _pairs(given: object, at: str) -> tuple[Point, ...]:
    if not isinstance(given, list) or len(given) < 3 or not all(_is_pair(each) for each in given):
        raise InvalidRequestError.at(at, "The points of a polygon are a list of at least three [x, y].")
    return tuple((float(x), float(y)) for x, y in given)


def _is_pair(given: object) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(_is_finite(each) for each in given)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6  # and so no NaN


def _number(value: Mapping[str, Any], name: str, at: str, default: float | None = None) -> float:
    given = value.get(name, default)
    if given is None and default is not None:
        return default
    if not _is_finite(given):
        raise InvalidRequestError.at(f"{at}/value/{name}", f"'{name}' of a region is a number in parts of a hundred.")
    return float(given)


def _bounds(ring: Sequence[Point]) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    return min(xs), min(ys), max(xs), max(ys)
