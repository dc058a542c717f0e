"""What the evidence looks at of a region, cut from the original image where images are prepared. No torch, no ONNX
Runtime; arguments and results pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.crops import cut_crop, placement, whole_pixels
from dynrefer.model.evidence.windows import cut_windows
from dynrefer.model.pyramid import AnyImage, ImagePyramid
from dynrefer.model.types import Corners


@dataclass(frozen=True, slots=True)
class EvidenceCrops:
    """The crops of one region.

    crop: (3, 224, 224) uint8 RGB, the region squeezed to a square, for the tower. image: likewise all of the image, the
    same array for all of its regions. windows: (W, 3, S, S) uint8 RGB, the
    region with its surroundings, for the detector; boxes: (W, 4) float32, the region in each, xyxy pixels.
    place: xyxy, where in the crop the region lies; the rest is padding. coverage: its part of the image's area.
    """

    crop: NDArray[np.uint8]
    image: NDArray[np.uint8]
    windows: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    place: tuple[int, int, int, int]
    coverage: float


class EvidenceCutter:
    """Cuts the crops of one image's regions; that of the whole image is cut once. For one thread at a time.

    image: upright, (H, W, 3) uint8, a Pillow image of mode RGB, or its `ImagePyramid`, which others can share.
    """

    def __init__(self, image: AnyImage) -> None:
        self._pyramid = ImagePyramid.of(image)
        self._size = self._pyramid.size

    @cached_property
    def _whole(self) -> NDArray[np.uint8]:
        return cut_crop(self._pyramid, (0, 0, *self._size))

    def cut(self, box: Corners) -> EvidenceCrops:
        """box: xyxy pixels, clipped to the image."""
        x1, y1, x2, y2 = corners = whole_pixels(box, self._size)
        crop = self._whole if corners == (0, 0, *self._size) else cut_crop(self._pyramid, box)
        windows, boxes = cut_windows(self._pyramid, box)
        across, down = x2 - x1, y2 - y1
        coverage = across * down / (self._size[0] * self._size[1])
        return EvidenceCrops(crop, self._whole, windows, boxes, placement((across, down)), coverage)
