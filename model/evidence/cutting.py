"""What the evidence looks at of a region, cut from the original image where images are prepared. No torch, no ONNX
Runtime; arguments and results pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.crops import cut_crop, placement, whole_pixels
from dynrefer.model.evidence.windows import cut_windows
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

    image: upright, (H, W, 3) uint8 or a Pillow image of mode RGB.
    """

    def __init__(self, image: NDArray[np.uint8] | Image.Image) -> None:
        self._image = image
        self._size = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])

    @cached_property
    def _whole(self) -> NDArray[np.uint8]:
        return cut_crop(self._image, (0, 0, *self._size))

    def cut(self, box: Corners) -> EvidenceCrops:
        """box: xyxy pixels, clipped to the image."""
        x1, y1, x2, y2 = corners = whole_pixels(box, self._size)
        crop = self._whole if corners == (0, 0, *self._size) else cut_crop(self._image, box)
        windows, boxes = cut_windows(self._image, box)
        across, down = x2 - x1, y2 - y1
        coverage = across * down / (self._size[0] * self._size[1])
        return EvidenceCrops(crop, self._whole, windows, boxes, placement((across, down)), coverage)
