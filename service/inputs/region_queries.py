"""Boxes as a request writes them -> queries about the upright image.

Plain records and functions of this module, which pickle and import neither torch nor the schemas: it is called in the
process that decodes the image, because only there its size and orientation become known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dynrefer.model import (
    BoxFormat,
    Corners,
    ImageInfo,
    PointPrompt,
    RegionQuery,
    corners_from,
    stored_size,
    upright_box,
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

NO_POINTS: Mapping[int, Sequence[GivenPoint]] = {}
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


def region_queries(
    boxes: Sequence[Sequence[float]],
    notation: BoxNotation,
    query: RegionQuery,
    info: ImageInfo,
    points: Mapping[int, Sequence[GivenPoint]] = NO_POINTS,
) -> list[RegionQuery]:
    """One query per box. boxes: four numbers each, as given. query: all else that is asked of every region.

    points: of the regions, by place, that have points instead of a box.
    """
    found = [replace(query, box=notation.corners(box, info)) for box in boxes]
    for place, given in points.items():
        found[place] = replace(query, points=tuple(notation.point(point, info) for point in given))
    return found
