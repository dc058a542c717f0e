"""The crop of a region that the evidence tower looks at: cut from the original image, never from a view. No torch.

A view has the network's side already; a small region seen through it has lost the detail that a photograph's name
hangs on (48 pixels instead of 224 cost half of the names).
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.pyramid import AnyImage, ImagePyramid
from dynrefer.model.types import Corners

SIDE = 224  # pixels; the "same" padding inside the tower is for this side only

PADDING = 127  # the tower's zero

# How many times longer than wide a region may be and still be squeezed to a square. Squeezed further, the tower names
# fewer: benchmarks/evidence_crops.py, which found no gain in margins, and none beyond noise in a second crop.
LONGEST = 1.5

# Large crops are first reduced by whole numbers, to no less than this many times the side. 2 is fast and hardly
# differs from filtering every pixel; see Pillow's `Image.resize`.
_REDUCING_GAP = 2.0
_GAP = 3  # likewise of the copy of the image that they are cut from


def cut_crop(image: AnyImage, box: Corners, side: int = SIDE, margin: float = 0.0) -> NDArray[np.uint8]:
    """Cut a box out of an image and squeeze it to a square, or nearly so if it is long and narrow: see `placement`.

    image: upright, (H, W, 3) uint8, a Pillow image of mode RGB, or the pyramid of either. box: xyxy, pixels of the
    image; it is widened to whole pixels and cut off at the image's edge, and is at least one pixel wide and high.
    margin: fraction of the box's width and height that is added on each side. Returns (3, side, side) uint8 RGB.
    """
    pyramid = ImagePyramid.of(image)
    left, top, right, bottom = corners = whole_pixels(box, pyramid.size, margin)
    x1, y1, x2, y2 = placement((right - left, bottom - top), side)
    resized = pyramid.resized(corners, (x2 - x1, y2 - y1), Image.Resampling.BICUBIC, _GAP, _REDUCING_GAP)
    planes = np.full((3, side, side), PADDING, dtype=np.uint8)
    for plane, band in zip(planes, "RGB", strict=True):  # faster than a transpose, as in `model/crops.py`
        plane[y1:y2, x1:x2] = np.frombuffer(resized.tobytes("raw", band), dtype=np.uint8).reshape(y2 - y1, x2 - x1)
    return planes


def placement(size: tuple[int, int], side: int = SIDE) -> tuple[int, int, int, int]:
    """Where a region of this (width, height) lies in its crop: xyxy, pixels of the crop. The rest is `PADDING`.

    Its longer side fills the crop. Its shorter side does too up to `LONGEST` to one, beyond that it keeps the
    proportion of that limit.
    """
    width, height = size
    short = round(side * min(1, LONGEST * min(size) / max(size)))
    wide, high = (side, max(short, 1)) if width >= height else (max(short, 1), side)
    x, y = (side - wide) // 2, (side - high) // 2
    return x, y, x + wide, y + high


def whole_pixels(box: Corners, size: tuple[int, int], margin: float = 0.0) -> tuple[int, int, int, int]:
    """The whole pixels (x1, y1, x2, y2) that a box with its margin touches inside an image of size (width, height).

    At least one pixel, also for a box that is empty or beyond the edge.
    """
    x1, y1, x2, y2 = box
    across, down = (x2 - x1) * margin, (y2 - y1) * margin
    left, right = _span(x1 - across, x2 + across, size[0])
    top, bottom = _span(y1 - down, y2 + down, size[1])
    return left, top, right, bottom


def _span(low: float, high: float, length: int) -> tuple[int, int]:
    start = min(max(math.floor(low), 0), length - 1)
    return start, min(max(math.ceil(high), start + 1), length)
