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
    original: the cutter of the image before something in it was blanked. Whether it is a drawing or a photograph shows
    in all of it, so that the crop of the whole image stays the original's.
    """

    def __init__(self, image: AnyImage, original: EvidenceCutter | None = None) -> None:
        self._pyramid, self._original = ImagePyramid.of(image), original
        self._size = self._pyramid.size

    @cached_property
    def _whole(self) -> NDArray[np.uint8]:
        if self._original is not None:
            return self._original._whole
        return cut_crop(self._pyramid, (0, 0, *self._size))

    def cut(self, box: Corners) -> EvidenceCrops:
        """box: xyxy pixels, clipped to the image."""
        x1, y1, x2, y2 = corners = whole_pixels(box, self._size)
        covers = self._original is None and corners == (0, 0, *self._size)
        crop = self._whole if covers else cut_crop(self._pyramid, box)
        windows, boxes = cut_windows(self._pyramid, box)
        across, down = x2 - x1, y2 - y1
        coverage = across * down / (self._size[0] * self._size[1])
        return EvidenceCrops(crop, self._whole, windows, boxes, placement((across, down)), coverage)
