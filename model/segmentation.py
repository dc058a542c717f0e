"""Points -> the mask of the object that is meant, in two pieces of CPU work around the device's.

    SegmentationSpec.prepare_each  (CPU, any process)    image, points -> windows of the image around the points
    Segmenter.segment              (the device's thread) windows -> the object's logits in one of them
    region_of                      (CPU, any process)    logits -> the region's mask and box, in the image's pixels

No torch: this runs in worker processes. S = side of a window in pixels. Boxes as in `geometry.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.cache import Digest, view_digest
from dynrefer.model.errors import PointsError, QueryError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.masks import RegionMask, box_from_mask, mask_from_bitmap
from dynrefer.model.points import PointPrompt, check_points
from dynrefer.model.pyramid import ImagePyramid
from dynrefer.model.types import Corners, ImageInfo, RegionQuery

LEAST_SIDE = 8.0  # pixels of the image that a window has at least
_GAP = 2.0  # large windows are cut from copies that have so many times their pixels
_SPREAD = 1.6  # a window's side is at least so many times what the points span


@dataclass(frozen=True, slots=True)
class ImageWindow:
    """A part of an image, stretched to a square.

    pixels: (S, S, 3) uint8 RGB. corners: xyxy pixels of the image. digest: of the pixels, by which an image is known.
    """

    pixels: NDArray[np.uint8]
    corners: Corners
    digest: Digest


MASK_VIEWS = 12  # in the time of which a mask is found


@dataclass(frozen=True, slots=True)
class PointedRegion:
    """A region whose mask is to be found: ready for the device.

    points: pixels of the upright image. windows: the whole image first, then ever closer looks at the points.
    box: instead of points, a box around the object; xyxy pixels of the upright image.
    """

    points: tuple[PointPrompt, ...]
    size: ImageSize
    windows: tuple[ImageWindow, ...]
    box: Corners | None = None

    @property
    def num_views(self) -> int:
        """What it counts as in a batch: so much that batches are short, and boxes need not wait for many masks."""
        return MASK_VIEWS


@dataclass(frozen=True, slots=True)
class WindowMask:
    """What a segmenter found. corners: of the window, xyxy pixels of the image. logits: (h, w) float16 over the window,
    above 0 where the object is; all else of the image is not the object."""

    corners: Corners
    logits: NDArray[np.float16]


class Segmenter(Protocol):
    """Finds the masks of objects that points lie on. It belongs to the device's thread."""

    @property
    def spec(self) -> SegmentationSpec:
        """How regions are prepared for it."""

    def segment(self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool]) -> list[WindowMask]:
        """One mask per region, in order, each the same whatever else is in the batch.

        should_stop: polled between regions; StoppedError once it returns true.
        """


@dataclass(frozen=True, slots=True)
class SegmentationSpec:
    """A `Preparation` of regions that points are given for.

    side: S. windows: how many looks a region has at most; from the second on each shows half of the one before, as long
    as the image has pixels for it.
    """

    side: int
    windows: int

    def invalid(self, queries: Sequence[RegionQuery], size: ImageSize) -> list[QueryError]:
        """See `Preparation`."""
        errors: list[QueryError] = []
        for index, query in enumerate(queries):
            try:
                if query.points:
                    check_points(query.points, size)
            except PointsError as error:
                error.index = index
                errors.append(error)
        return errors

    def prepare_each(self, image: Pixels, queries: Sequence[RegionQuery]) -> Iterator[PointedRegion]:
        """See `Preparation`. Regions of one image share its window. Without points it is about what is in the box."""
        pyramid = ImagePyramid(image)
        seen: dict[Corners, ImageWindow] = {}
        for query in queries:
            if not query.points:
                windows = self._windows(pyramid, looks((query.box[:2], query.box[2:]), pyramid.size, self), seen)
                yield PointedRegion((), pyramid.size, windows, query.box)
                continue
            positive = [(point.x, point.y) for point in query.points if point.positive]
            windows = self._windows(pyramid, looks(positive, pyramid.size, self), seen)
            yield PointedRegion(query.points, pyramid.size, windows)

    def prepare_boxes(self, image: Pixels, boxes: Sequence[Corners]) -> Iterator[PointedRegion]:
        """The same for objects that boxes are known of, which lie in the image."""
        pyramid = ImagePyramid(image)
        seen: dict[Corners, ImageWindow] = {}
        for box in boxes:
            windows = self._windows(pyramid, looks((box[:2], box[2:]), pyramid.size, self), seen)
            yield PointedRegion((), pyramid.size, windows, box)

    def _windows(
        self, pyramid: ImagePyramid, wanted: Sequence[Corners], seen: dict[Corners, ImageWindow]
    ) -> tuple[ImageWindow, ...]:
        for corners in wanted:
            if corners not in seen:
                pixels = _cut(pyramid, corners, self.side)
                seen[corners] = ImageWindow(pixels, corners, view_digest(pixels))
        return tuple(seen[corners] for corners in wanted)


def looks(places: Sequence[tuple[float, float]], size: ImageSize, spec: SegmentationSpec) -> list[Corners]:
    """The windows of a region, xyxy whole pixels: all of the image, then ever closer around places (x, y)."""
    width, height = size
    found: list[Corners] = [(0.0, 0.0, float(width), float(height))]
    xs, ys = zip(*places, strict=True)
    across, down = _SPREAD * (max(xs) - min(xs)), _SPREAD * (max(ys) - min(ys))
    side = max(size) / 2
    while len(found) < spec.windows and 2 * side > spec.side and side >= max(across, down):
        found.append(_whole(window_around((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, side, side, size), size))
        side /= 2
    return list(dict.fromkeys(found))


def window_around(x: float, y: float, across: float, down: float, size: ImageSize) -> Corners:
    """A window with this centre and these sides, moved and if need be narrowed so that it lies inside the image."""
    width, height = size
    across = min(max(across, LEAST_SIDE), float(width))
    down = min(max(down, LEAST_SIDE), float(height))
    left = min(max(x - across / 2, 0.0), width - across)
    top = min(max(y - down / 2, 0.0), height - down)
    return left, top, left + across, top + down


def region_of(found: WindowMask, points: Sequence[PointPrompt], size: ImageSize) -> tuple[Corners, RegionMask]:
    """The region's box, by the official rule for masks, and its mask."""
    mask = mask_from_bitmap(bitmap_of(found, points, size))
    return box_from_mask(mask), mask


def mask_in_box(found: WindowMask, box: Corners, size: ImageSize) -> RegionMask:
    """The mask's part inside a box, xyxy pixels of the image; the box itself where nothing of it is left."""
    bitmap = bitmap_of(found, (), size)
    left, top = int(box[0]), int(box[1])
    right, bottom = max(left + 1, math.ceil(box[2])), max(top + 1, math.ceil(box[3]))
    inside = np.zeros_like(bitmap)
    inside[top:bottom, left:right] = bitmap[top:bottom, left:right]
    if not inside.any():
        inside[top:bottom, left:right] = True
    return mask_from_bitmap(inside)


def bitmap_of(found: WindowMask, points: Sequence[PointPrompt], size: ImageSize) -> NDArray[np.bool_]:
    """Which of the image's pixels belong to the object, (H, W) bool; size: (W, H).

    Logits are interpolated to the image's pixels. The pixel under every positive point belongs to the object, because
    the client said so: a mask is never empty.
    """
    width, height = size
    bitmap = np.zeros((height, width), dtype=np.bool_)
    x1, y1, x2, y2 = found.corners
    left, top = max(0, int(x1)), max(0, int(y1))
    right, bottom = min(width, math.ceil(x2)), min(height, math.ceil(y2))
    scale_x, scale_y = found.logits.shape[1] / (x2 - x1), found.logits.shape[0] / (y2 - y1)
    box = ((left - x1) * scale_x, (top - y1) * scale_y, (right - x1) * scale_x, (bottom - y1) * scale_y)
    bitmap[top:bottom, left:right] = _resampled(found.logits.astype(np.float32), (right - left, bottom - top), box) > 0
    for point in points:
        if point.positive:
            bitmap[min(int(point.y), height - 1), min(int(point.x), width - 1)] = True
    return bitmap


def queries_with_masks(
    queries: Callable[[ImageInfo], Sequence[RegionQuery]], found: Mapping[int, WindowMask], info: ImageInfo
) -> list[RegionQuery]:
    """The queries of a request, those that points were given for with the boxes and masks that were found for them.

    found: by place; a query whose place is not there keeps its points alone.
    """
    size = info.width, info.height
    given = list(queries(info))
    for place, mask in found.items():
        box, region = region_of(mask, given[place].points, size)
        given[place] = replace(given[place], box=box, mask=region)
    return given


def queries_with_whole_image(
    queries: Callable[[ImageInfo], Sequence[RegionQuery]], places: Sequence[int], info: ImageInfo
) -> list[RegionQuery]:
    """The queries of a request, those of these places about the whole image instead of points."""
    given = list(queries(info))
    for place in places:
        whole = (0.0, 0.0, float(info.width), float(info.height))
        given[place] = replace(given[place], box=whole, points=(), highlight=False)
    return given


def pointed_queries(
    queries: Callable[[ImageInfo], Sequence[RegionQuery]], places: Sequence[int], info: ImageInfo
) -> list[RegionQuery]:
    """Only those queries of a request that points are given for."""
    given = queries(info)
    return [given[place] for place in places]


def _whole(corners: Corners, size: ImageSize) -> Corners:
    x1, y1, x2, y2 = corners
    return float(int(x1)), float(int(y1)), float(min(size[0], round(x2))), float(min(size[1], round(y2)))


def _cut(pyramid: ImagePyramid, corners: Corners, side: int) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = (int(value) for value in corners)
    return np.asarray(pyramid.resized((x1, y1, x2, y2), (side, side), Image.Resampling.BILINEAR, _GAP))


def _resampled(
    values: NDArray[np.float32], size: ImageSize, box: tuple[float, float, float, float]
) -> NDArray[np.float32]:
    """A part of (h, w) float32 values, bilinearly interpolated, (height, width); box: xyxy in places of `values`, held
    within them."""
    tall, wide = values.shape
    held = max(0.0, box[0]), max(0.0, box[1]), min(float(wide), box[2]), min(float(tall), box[3])
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR, box=held))
