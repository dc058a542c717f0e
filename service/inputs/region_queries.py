"""Boxes as a request writes them -> queries about the upright image.

Plain records and functions of this module, which pickle and import neither torch nor the schemas: it is called in the
process that decodes the image, because only there its size and orientation become known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dynrefer.model import (
    BoxFormat,
    Corners,
    ImageInfo,
    PointPrompt,
    Polygon,
    Prompt,
    PromptError,
    RegionQuery,
    Scribble,
    corners_from,
    mask_from_bitmap,
    placed,
    stored_mask,
    stored_size,
    upright_box,
    upright_view,
)


class Coordinates(StrEnum):
    """What the numbers of a box count."""

    PIXELS = "pixels"
    UNIT = "unit"  # 0 to 1, of the image's width and height
    PERCENT = "percent"  # 0 to 100, as Label Studio writes them
    PER_MILLE = "per_mille"  # 0 to 1000, as language models write them


class Orientation(StrEnum):
    """The frame of a request's and its answer's coordinates."""

    UPRIGHT = "upright"  # after the EXIF orientation, as viewers show the image
    STORED = "stored"  # the rows and columns of the file


GivenPoint = tuple[float, float, bool]  # x, y, whether it lies on the object

# The whole image is so much wide, and so much high.
WHOLE = {Coordinates.UNIT: 1.0, Coordinates.PERCENT: 100.0, Coordinates.PER_MILLE: 1000.0}


@dataclass(frozen=True, slots=True)
class BoxNotation:
    """How a request writes its boxes."""

    box_format: BoxFormat = BoxFormat.XYXY
    coordinates: Coordinates = Coordinates.PIXELS
    orientation: Orientation = Orientation.UPRIGHT

    def corners(self, values: Sequence[float], info: ImageInfo) -> Corners:
        """xyxy pixels of the upright image, of four numbers as given. Nothing is validated or clipped."""
        stored = self.orientation is Orientation.STORED
        if self.coordinates in WHOLE:
            whole = WHOLE[self.coordinates]
            width, height = stored_size(info) if stored else (info.width, info.height)
            values = [value * side / whole for value, side in zip(values, (width, height) * 2, strict=True)]
        corners = corners_from(values, self.box_format)
        return upright_box(corners, info) if stored else corners

    def point(self, point: GivenPoint, info: ImageInfo) -> PointPrompt:
        """A point in pixels of the upright image. Nothing is validated."""
        stored = self.orientation is Orientation.STORED
        x, y, positive = point
        if self.coordinates in WHOLE:
            width, height = stored_size(info) if stored else (info.width, info.height)
            x, y = x * width / WHOLE[self.coordinates], y * height / WHOLE[self.coordinates]
        if stored:
            x, y, _, _ = upright_box((x, y, x, y), info)
        return PointPrompt(x, y, positive)

    def hint(self, values: Sequence[float]) -> str:
        """What else the numbers of a box that was refused may have meant; empty where nothing suggests itself."""
        if self.coordinates is Coordinates.PIXELS:
            if all(0 <= value <= 1 for value in values):
                return ' Did you mean "coordinates": "unit" (or "normalized": true)?'
            return ""
        whole = WHOLE[self.coordinates]
        if max(map(abs, values)) > 1.5 * whole:
            return f' With "coordinates": "{self.coordinates}" the numbers of a box lie in 0 to {whole:g}.'
        return ""


@dataclass(frozen=True, slots=True)
class GivenPrompts:
    """What regions have instead of a box, by place.

    points: as given. prompts: polygons and scribbles with their numbers as given, and masks. highlighted: the places
    of regions whose surroundings are blanked.
    """

    points: Mapping[int, Sequence[GivenPoint]] = field(default_factory=dict)
    prompts: Mapping[int, Prompt] = field(default_factory=dict)
    highlighted: frozenset[int] = frozenset()


NO_PROMPTS = GivenPrompts()


def region_queries(
    boxes: Sequence[Sequence[float]],
    notation: BoxNotation,
    query: RegionQuery,
    info: ImageInfo,
    given: GivenPrompts = NO_PROMPTS,
) -> list[RegionQuery]:
    """One query per box. boxes: four numbers each, as given. query: all else that is asked of every region.

    given: of the regions that have something else instead. What is wrong with it is the query's `flaw`.
    """
    found = [replace(query, box=notation.corners(box, info)) for box in boxes]
    for place, points in given.points.items():
        found[place] = replace(query, points=tuple(notation.point(point, info) for point in points))
    for place, prompt in given.prompts.items():
        found[place] = _placed(prompt, notation, query, info, highlight=place in given.highlighted)
    for place in given.highlighted:
        found[place] = replace(found[place], highlight=True)
    return found


def _placed(
    prompt: Prompt, notation: BoxNotation, query: RegionQuery, info: ImageInfo, *, highlight: bool
) -> RegionQuery:
    """The query of a region with this prompt: its box, and its mask where that is needed."""
    stored = notation.orientation is Orientation.STORED
    size = stored_size(info) if stored else (info.width, info.height)
    prompt, values = _in_pixels(prompt, notation, size)
    try:
        alpha = stored_mask(info.alpha, info) if stored and info.alpha is not None else info.alpha
        box, bitmap = placed(prompt, size, alpha, highlight=highlight)
    except PromptError as error:
        hint = notation.hint(values) if values else ""
        return replace(query, flaw=PromptError(f"{error}{hint}", error.field))
    if stored:
        box = upright_box(box, info)
        bitmap = None if bitmap is None else upright_view(bitmap, info.orientation)
    mask = None if bitmap is None else mask_from_bitmap(bitmap)
    return replace(query, box=box, mask=mask, rough=isinstance(prompt, Scribble))


def _in_pixels(prompt: Prompt, notation: BoxNotation, size: tuple[int, int]) -> tuple[Prompt, tuple[float, ...]]:
    """The prompt with its numbers in pixels, and all of them as they were given; masks have none."""
    lines = prompt.rings if isinstance(prompt, Polygon) else prompt.lines if isinstance(prompt, Scribble) else ()
    values = tuple(value for line in lines for value in line)
    if notation.coordinates not in WHOLE or not values:
        return prompt, values
    factors = [side / WHOLE[notation.coordinates] for side in size]
    scaled = tuple(tuple(value * factors[at % 2] for at, value in enumerate(line)) for line in lines)
    return (Polygon(scaled) if isinstance(prompt, Polygon) else Scribble(scaled)), values
