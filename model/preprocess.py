"""From an image and a view plan to what the network takes: resized crops and the region's box in each.

The bytes are those of the released code: integer crop, then Pillow's bicubic resize. Values stay uint8 here;
the device scales and normalises (`network/vision.py`), so that a quarter of the bytes travel. No torch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.geometry import boxes_in_views, integer_crops
from model.records import ViewPlan


@dataclass(frozen=True, slots=True)
class ViewBatch:
    """The views of one region.

    images: (V, 3, S, S) uint8 RGB, 0..255. boxes: (V, 4) float32, xyxy, whole pixels of the S x S view.
    """

    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]


def cut_views(image: NDArray[np.uint8] | Image.Image, plan: ViewPlan, view_size: int) -> ViewBatch:
    """Cut a plan's views out of an image and resize each to view_size x view_size pixels.

    image: the one that the plan was made for, upright, (H, W, 3) uint8 or a Pillow image of mode RGB. For
    several large regions of one image the latter saves a conversion per view.
    """
    size = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
    crops = integer_crops(np.array([view.box for view in plan.views], dtype=np.float32), size)
    images = np.empty((len(crops), 3, view_size, view_size), dtype=np.uint8)
    seen: dict[tuple[int, ...], int] = {}  # a region that is the whole image has all its views equal
    for index, corners in enumerate(map(tuple, crops.tolist())):
        first = seen.setdefault(corners, index)
        images[index] = images[first] if first < index else _resized(_crop(image, corners), view_size)
    return ViewBatch(images, boxes_in_views(crops, view_size))


def _crop(image: NDArray[np.uint8] | Image.Image, corners: tuple[int, ...]) -> Image.Image:
    """Cut the pixels (x1, y1, x2, y2) out."""
    x1, y1, x2, y2 = corners
    if isinstance(image, Image.Image):
        return image.crop((x1, y1, x2, y2))
    return Image.fromarray(image[y1:y2, x1:x2])


def _resized(crop: Image.Image, view_size: int) -> NDArray[np.uint8]:
    """Resize what was cut out before: (3, view_size, view_size) uint8.

    Pillow can resize a part of an image in one step, but lets the pixels around it shine in.
    """
    return np.asarray(crop.resize((view_size, view_size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
