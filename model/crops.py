"""From an image and a view plan to what the network takes: resized crops and the region's box in each.

The bytes are those of the released code: integer crop, then Pillow's bicubic resize. Values stay uint8 here;
the device scales and normalises (`networks/dynrefer/vision.py`), so that a quarter of the bytes is transferred.
No torch at import.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.cache import Digest, view_digest
from dynrefer.model.geometry import boxes_in_views, integer_crops
from dynrefer.model.types import ViewPlan


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

    image: upright, (H, W, 3) uint8 or a Pillow image of mode RGB. view_size: side of a view in pixels.
    Not meant for use by two threads at once.
    """

    def __init__(self, image: NDArray[np.uint8] | Image.Image, view_size: int) -> None:
        self._image, self._view_size = image, view_size
        size = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
        self._size = size
        self._seen: dict[tuple[int, ...], tuple[NDArray[np.uint8], Digest]] = {}

    def cut(self, plan: ViewPlan) -> ViewBatch:
        """A plan's views; the plan was made for this image."""
        crops = integer_crops(np.array([view.box for view in plan.views], dtype=np.float32), self._size)
        images = np.empty((len(crops), 3, self._view_size, self._view_size), dtype=np.uint8)
        digests = []
        for place, corners in zip(images, map(tuple, crops.tolist()), strict=True):
            if corners in self._seen:
                place[:], digest = self._seen[corners]
            else:
                _resize_into(place, crop_pixels(self._image, corners))
                digest = view_digest(place)
                self._seen[corners] = place, digest
            digests.append(digest)
        return ViewBatch(images, boxes_in_views(crops, self._view_size), tuple(digests))


def cut_views(image: NDArray[np.uint8] | Image.Image, plan: ViewPlan, view_size: int) -> ViewBatch:
    """Cut one plan's views out of an image and resize each to view_size x view_size pixels."""
    return ViewCutter(image, view_size).cut(plan)


def crop_pixels(image: NDArray[np.uint8] | Image.Image, corners: tuple[int, ...]) -> Image.Image:
    """Cut the pixels (x1, y1, x2, y2) out of an image, as a Pillow image of mode RGB."""
    x1, y1, x2, y2 = corners
    if isinstance(image, Image.Image):
        return image.crop((x1, y1, x2, y2))
    part = image[y1:y2, x1:x2]
    if not image.flags.c_contiguous:
        return Image.fromarray(part)
    # Pillow reads the rows in place, with a stride; `fromarray` would copy the crop first.
    row = image.shape[1] * 3
    start = y1 * row + x1 * 3
    rows = image.reshape(-1)[start : start + (y2 - y1 - 1) * row + (x2 - x1) * 3]
    return Image.frombytes("RGB", (x2 - x1, y2 - y1), rows.data, "raw", "RGB", row, 1)


def _resize_into(place: NDArray[np.uint8], crop: Image.Image) -> None:
    """Resize a crop into `place`, (3, S, S) uint8.

    Pillow can crop and resize in one step, but then the pixels around the crop bleed in.
    """
    height, width = place.shape[1:]
    resized = crop.resize((width, height), Image.Resampling.BICUBIC)
    for plane, band in zip(place, "RGB", strict=True):  # Pillow unpacks one band faster than numpy transposes three
        plane[:] = np.frombuffer(resized.tobytes("raw", band), dtype=np.uint8).reshape(height, width)
