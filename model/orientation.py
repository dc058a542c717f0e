"""The eight EXIF orientations: how a file's stored rows and columns are turned to be upright. No torch.

The ONE table of them, for pixels and for boxes. Two frames: "stored" is the file's rows and columns as they are,
"upright" is what a viewer shows. Boxes are (x1, y1, x2, y2) in pixels, x to the right, y down, x2 and y2 exclusive.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.geometry import ImageSize
from dynrefer.model.masks import RegionMask, bitmap_from_mask, mask_from_bitmap
from dynrefer.model.types import Corners, ImageInfo

Element = TypeVar("Element", bound=np.generic)

# Orientation -> (rows and columns are swapped; then left and right are mirrored; then top and bottom are).
TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def upright_view(stored: NDArray[Element], orientation: int) -> NDArray[Element]:
    """The upright (H, W, ...) view of stored (h, w, ...) pixels; nothing is copied."""
    swapped, mirrored, flipped = TURNS[orientation]
    view = stored.swapaxes(0, 1) if swapped else stored
    return view[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def stored_view(upright: NDArray[Element], orientation: int) -> NDArray[Element]:
    """The view of upright (H, W, ...) pixels in the order in which the file stores them; nothing is copied."""
    swapped, mirrored, flipped = TURNS[orientation]
    view = upright[:: -1 if flipped else 1, :: -1 if mirrored else 1]
    return view.swapaxes(0, 1) if swapped else view


def stored_size(info: ImageInfo) -> ImageSize:
    """(width, height) of the rows and columns in the file, in pixels."""
    swapped, _, _ = TURNS[info.orientation]
    return (info.height, info.width) if swapped else (info.width, info.height)


def upright_box(corners: Corners, info: ImageInfo) -> Corners:
    """A box of the stored frame in the upright one. Nothing is clipped; an inverted box stays inverted."""
    swapped, mirrored, flipped = TURNS[info.orientation]
    x1, y1, x2, y2 = corners
    if swapped:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return _mirrored((x1, y1, x2, y2), info, mirrored, flipped)


def stored_box(corners: Corners, info: ImageInfo) -> Corners:
    """A box of the upright frame in the stored one: the inverse of `upright_box`."""
    swapped, mirrored, flipped = TURNS[info.orientation]
    x1, y1, x2, y2 = _mirrored(corners, info, mirrored, flipped)
    return (y1, x1, y2, x2) if swapped else (x1, y1, x2, y2)


def stored_mask(mask: RegionMask, info: ImageInfo) -> RegionMask:
    """A mask of the upright frame in the stored one."""
    if info.orientation == 1:
        return mask
    return mask_from_bitmap(stored_view(bitmap_from_mask(mask), info.orientation))


def _mirrored(corners: Corners, info: ImageInfo, mirrored: bool, flipped: bool) -> Corners:
    """A box of the upright frame, with left and right or top and bottom mirrored."""
    x1, y1, x2, y2 = corners
    if mirrored:
        x1, x2 = info.width - x2, info.width - x1
    if flipped:
        y1, y2 = info.height - y2, info.height - y1
    return x1, y1, x2, y2
