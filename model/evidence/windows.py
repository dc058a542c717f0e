"""The windows that the detector looks at: a region with its surroundings, cut from the original image. No torch.

A detector knows things by what stands around them, so that a window is larger than its region; but it should also see
the region's detail. Hence two windows of the same number of pixels, a wide one and a tight one (`SHARES`). A window
depends on the image and on its own region alone.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.pyramid import AnyImage, ImagePyramid
from dynrefer.model.types import Corners

SIDE = 192  # pixels; a multiple of the detector's largest stride, 32
SHARES = (0.25, 0.65)
"""The region's longer side in the window's, in a wide window and in a tight one."""

# Large windows are first reduced by whole numbers, to no less than this many times the side, as the tower's crops are.
_REDUCING_GAP = 2.0
_GAP = 3  # likewise of the copy of the image that they are cut from


def cut_windows(
    image: AnyImage, box: Corners, shares: tuple[float, ...] = SHARES, side: int = SIDE
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """All windows of one region: ((W, 3, side, side) uint8 RGB, (W, 4) float32 boxes), W = number of shares."""
    windows, boxes = zip(*(cut_window(image, box, share, side) for share in shares), strict=True)
    return np.stack(windows), np.stack(boxes)


def cut_window(
    image: AnyImage, box: Corners, share: float, side: int = SIDE
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a square window around a box, with the box at its centre where the image reaches far enough.

    At the image's edge the window moves inwards; where it is larger than the image it ends there, and the rest is
    black, as in the detector's training. Proportions are kept.

    image: upright, (H, W, 3) uint8, a Pillow image of mode RGB, or the pyramid of either. box: xyxy, pixels of the
    image. share: the box's longer side / the window's. Returns (3, side, side) uint8 RGB and the box in the window,
    (4,) float32 xyxy pixels.
    """
    pyramid = ImagePyramid.of(image)
    width, height = pyramid.size
    x1, y1, x2, y2 = box
    length = max(x2 - x1, y2 - y1, 1.0) / share
    left, right = _span((x1 + x2) / 2, length, width)
    top, bottom = _span((y1 + y2) / 2, length, height)
    scale = side / max(right - left, bottom - top)
    across, down = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    corners = left, top, right, bottom
    resized = pyramid.resized(corners, (across, down), Image.Resampling.BILINEAR, _GAP, _REDUCING_GAP)
    x, y = (side - across) // 2, (side - down) // 2
    window = np.zeros((3, side, side), dtype=np.uint8)
    for plane, band in zip(window, "RGB", strict=True):  # faster than a transpose, as in `model/crops.py`
        values = np.frombuffer(resized.tobytes("raw", band), dtype=np.uint8)
        plane[y : y + down, x : x + across] = values.reshape(down, across)
    factors = np.array([across / (right - left), down / (bottom - top)] * 2)
    placed = (np.array(box, dtype=np.float64) - (left, top, left, top)) * factors + (x, y, x, y)
    return window, placed.astype(np.float32)


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    """The whole pixels of a stretch of this length around a centre, moved into 0..limit, or all of these."""
    if length >= limit:
        return 0, limit
    start = min(max(centre - length / 2, 0.0), limit - length)
    return math.floor(start), min(math.ceil(start + length), limit)
