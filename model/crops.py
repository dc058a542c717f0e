"""From an image and a view plan to what the network takes: resized crops and the region's box in each.

The bytes are those of the released code: integer crop, then Pillow's bicubic resize. Large crops come within a
few grey levels of them, from copies of the image that are reduced to no less than `GAP` times the view's side
(`pyramid.py`). Values stay uint8 here; the device scales and normalises (`networks/dynrefer/vision.py`), so that a
quarter of the bytes is transferred. No torch at import.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.cache import Digest, view_digest
from dynrefer.model.geometry import IntCorners, boxes_in_views, integer_crops
from dynrefer.model.pyramid import AnyImage, ImagePyramid
from dynrefer.model.types import ViewPlan

GAP = 4  # how many times a view's side a large crop keeps before the bicubic filter: benchmarks/large_images.py
BLANK = (123, 117, 104)  # CLIP's mean colour, which the network sees as zero


@dataclass(frozen=True, slots=True)
class ViewBatch:
    """The views of one region.

    images: (V, 3, S, S) uint8 RGB, 0..255. boxes: (V, 4) float32, xyxy, whole pixels of the S x S view.
    digests: of each view's pixels.
    """

    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    digests: tuple[Digest, ...]


class ViewCutter:
    """Cuts the views of one image's regions. A crop that several of them share, such as t = 1, is cut once.

    image: upright, (H, W, 3) uint8, a Pillow image of mode RGB, or its `ImagePyramid`, which others can share.
    view_size: side of a view in pixels. Not meant for use by two threads at once.
    """

    def __init__(self, image: AnyImage, view_size: int) -> None:
        self._pyramid, self._view_size = ImagePyramid.of(image), view_size
        self._seen: dict[IntCorners, tuple[NDArray[np.uint8], Digest]] = {}

    def cut(self, plan: ViewPlan) -> ViewBatch:
        """A plan's views; the plan was made for this image."""
        crops = integer_crops(np.array([view.box for view in plan.views], dtype=np.float32), self._pyramid.size)
        images = np.empty((len(crops), 3, self._view_size, self._view_size), dtype=np.uint8)
        digests = []
        for place, (x1, y1, x2, y2) in zip(images, crops.tolist(), strict=True):
            corners = x1, y1, x2, y2
            if corners in self._seen:
                place[:], digest = self._seen[corners]
            else:
                self._resize_into(place, corners)
                digest = view_digest(place)
                self._seen[corners] = place, digest
            digests.append(digest)
        return ViewBatch(images, boxes_in_views(crops, self._view_size), tuple(digests))

    def _resize_into(self, place: NDArray[np.uint8], corners: IntCorners) -> None:
        """Resize a crop into `place`, (3, S, S) uint8."""
        height, width = place.shape[1:]
        resized = self._pyramid.resized(corners, (width, height), Image.Resampling.BICUBIC, GAP)
        for plane, band in zip(place, "RGB", strict=True):  # Pillow unpacks one band faster than numpy transposes three
            plane[:] = np.frombuffer(resized.tobytes("raw", band), dtype=np.uint8).reshape(height, width)


def highlighted(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A copy of (H, W, 3) uint8 RGB in which all but the mask, (H, W) bool, is blank: the region is then described as
    if nothing else were in the image, in every view and in what the evidence looks at of it."""
    found = np.empty_like(image)
    found[:] = BLANK
    np.copyto(found, image, where=mask[..., None])
    return found


def cut_views(image: AnyImage, plan: ViewPlan, view_size: int) -> ViewBatch:
    """Cut one plan's views out of an image and resize each to view_size x view_size pixels."""
    return ViewCutter(image, view_size).cut(plan)
