"""Boxes on an image: validation, clipping, moving towards the image, integer crops, boxes inside a view.

Coordinates: a box is (x1, y1, x2, y2) in pixels of the upright image, x to the right, y down, x2 and y2 exclusive.
An image size is (width, height) in pixels. The interpolation and the scaling into a view run in float32 and
truncate, as the official code does: in float64 1.4 % of the crops would be one pixel off.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import BoxError
from dynrefer.model.types import Corners

ImageSize = tuple[int, int]
IntCorners = tuple[int, int, int, int]


class BoxFormat(StrEnum):
    """What the four numbers of a box are: corners; corner and size (COCO); centre and size (YOLO)."""

    XYXY = "xyxy"
    XYWH = "xywh"
    CXCYWH = "cxcywh"


def corners_from(
    values: Sequence[float],
    box_format: BoxFormat = BoxFormat.XYXY,
    *,
    normalized: bool = False,
    image_size: ImageSize = (1, 1),
) -> Corners:
    """Turn four numbers of any `box_format` into xyxy pixels; nothing is validated or clipped here.

    normalized: the numbers are fractions of the width and the height of `image_size`, else pixels.
    """
    a, b, c, d = (float(value) for value in values)
    if normalized:
        width, height = image_size
        a, b, c, d = a * width, b * height, c * width, d * height
    match box_format:
        case BoxFormat.XYXY:
            return a, b, c, d
        case BoxFormat.XYWH:
            return a, b, a + c, b + d
        case BoxFormat.CXCYWH:
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the upright image: finite, neither inverted nor empty, else `BoxError`.

    It may reach beyond the image until `clip` has been called.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        """Check the corners.

        Raises:
            BoxError: a coordinate is not finite, or the box is inverted or empty.
        """
        if not all(math.isfinite(value) for value in self.corners):
            raise BoxError(f"The box {self} has a coordinate that is not a finite number.")
        if self.x2 < self.x1 or self.y2 < self.y1:
            raise BoxError(f"The box {self} is inverted: it needs x1 < x2 and y1 < y2.")
        if self.x2 == self.x1 or self.y2 == self.y1:
            raise BoxError(f"The box {self} is empty: it needs x1 < x2 and y1 < y2.")

    def __str__(self) -> str:
        """Write the corners as (x1, y1, x2, y2)."""
        return "({:g}, {:g}, {:g}, {:g})".format(*self.corners)

    @property
    def corners(self) -> Corners:
        """The corners (x1, y1, x2, y2), float pixels."""
        return self.x1, self.y1, self.x2, self.y2

    def clip(self, image_size: ImageSize) -> "Box":
        """Cut the box to the image; unchanged where it lies inside.

        Raises:
            BoxError: nothing of the box lies inside, or less than float32 can tell from nothing.
        """
        width, height = image_size
        x1, y1 = max(self.x1, 0.0), max(self.y1, 0.0)
        x2, y2 = min(self.x2, float(width)), min(self.y2, float(height))
        if np.float32(x1) >= np.float32(x2) or np.float32(y1) >= np.float32(y2):
            raise BoxError(f"The box {self} covers nothing of the image of {width} x {height} pixels.")
        return Box(x1, y1, x2, y2)

    def towards(self, image_size: ImageSize, t: float) -> "Box":
        """Move the box towards the whole image: t = 0 is the box, t = 1 the image; corners in float32."""
        return Box(*boxes_towards(self.corners, image_size, (t,))[0].tolist())

    def crop(self, image_size: ImageSize) -> IntCorners:
        """The pixels to cut out: corners clipped to the image and truncated, at least 1 x 1."""
        x1, y1, x2, y2 = integer_crops(np.array([self.corners], dtype=np.float32), image_size)[0].tolist()
        return x1, y1, x2, y2


def region_box(corners: Corners) -> Box:
    """The box of a region that a client asks about, in pixels of the upright image.

    Raises:
        BoxError: as `Box`, or less than one pixel wide and high, as of fractions that were taken for pixels. Nobody can
            have drawn such a box; views need no such check, nor do annotations, which are read as they are.
    """
    box = Box(*corners)
    width, height = box.x2 - box.x1, box.y2 - box.y1
    fractions = all(0 <= value <= 1 for value in corners)
    if (width < 1 and height < 1) or (fractions and min(width, height) < 1):
        raise BoxError(f"The box {box} is less than one pixel.")
    return box


def boxes_towards(corners: Corners, image_size: ImageSize, ts: Sequence[float]) -> NDArray[np.float32]:
    """Interpolate a box towards the image at every t: (T, 4) float32, `b + t * ((0, 0, w, h) - b)`.

    Every step rounds to float32, as in the released code.
    """
    box = np.array(corners, dtype=np.float32)
    whole = np.array((0, 0, *image_size), dtype=np.float32)
    return box + np.array(ts, dtype=np.float32)[:, None] * (whole - box)


def integer_crops(boxes: NDArray[np.float32], image_size: ImageSize) -> NDArray[np.int64]:
    """Clip (N, 4) float32 boxes to the image and truncate them to whole pixels, (N, 4) int64.

    A crop that truncation leaves empty (a box between two pixel edges) is widened to one pixel; the official
    code fails there.
    """
    limits = np.array(image_size * 2, dtype=np.float32)
    crops = np.clip(boxes, 0, limits).astype(np.int64)
    first = np.minimum(crops[:, :2], np.array(image_size) - 1)
    return np.concatenate([first, np.maximum(crops[:, 2:], first + 1)], axis=1)


def boxes_in_views(crops: NDArray[np.int64], view_size: int) -> NDArray[np.float32]:
    """Place the region inside each of its views: (V, 4) float32, whole pixels of the view, 0..view_size.

    crops: (V, 4) integer crops, the region itself (t = 0) first. Each coordinate is relative to its crop and
    scaled by float32(view_size / side of the crop), then truncated: a full 640 x 426 image gives
    (0, 0, 224, 223) at 224.
    """
    origins, ends = crops[:, :2], crops[:, 2:]
    scales = (np.float64(view_size) / (ends - origins)).astype(np.float32)
    relative = (crops[:1] - np.tile(origins, 2)).astype(np.float32)
    return np.trunc(relative * np.tile(scales, 2))


def usual_box_format(*, official: bool) -> BoxFormat:
    """The default format of an annotation's `bbox`: corners in the official project's files, whose annotations have
    `extra_info`; else a corner and a size, as COCO defines it."""
    return BoxFormat.XYXY if official else BoxFormat.XYWH


def box_from_polygons(polygons: Sequence[Sequence[float]]) -> Corners:
    """Bound COCO polygons ([x, y, x, y, ...] each) by a box of at least one pixel, by the official rule.

    Where a side is one pixel or less it grows at its low end, at the high end if it lies at 0.

    Raises:
        BoxError: there is no point, or a polygon has an odd count of numbers.
    """
    if not any(polygons) or any(len(polygon) % 2 for polygon in polygons):
        raise BoxError("A polygon needs at least one point, given as pairs of x and y.")
    xs = [float(x) for polygon in polygons for x in polygon[0::2]]
    ys = [float(y) for polygon in polygons for y in polygon[1::2]]
    x1, x2 = _widened(min(xs), max(xs))
    y1, y2 = _widened(min(ys), max(ys))
    return x1, y1, x2, y2


def _widened(low: float, high: float) -> tuple[float, float]:
    if low < high - 1:
        return low, high
    return (high - 1, high) if high > 0 else (low, low + 1)
