"""Resized crops of one image, large ones from reduced copies that its regions share. No torch.

A resize of Pillow reads every pixel of its crop, so 64 regions of a large image would read it hundreds of times. A view
has few pixels; reduced by a box filter to several times the view's sides, the image looks the same to it. Hence an
image pyramid: copies reduced by whole numbers, made when a crop first needs them. Small crops are always cut from the
image itself, so ordinary images give the bytes of the released code. Which copy serves a crop depends on the crop and
its size alone, never on what else was asked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.geometry import ImageSize, IntCorners

# Smaller crops are resized from all of their pixels. At this size that takes 4 ms.
REDUCE_FROM_PIXELS = 1 << 20

# Of the copies reduced alike along both axes, and of those reduced otherwise, for long crops that become square views:
# each factor is a power of these. The finest copy has a sixteenth of the pixels, so that all copies that an image can
# have (4 x 4, 8 x 8, ...; 16 x 4, 16 x 1, ...) come to 30 % of its bytes.
STEP, SQUARE_STEP = 4, 2
LEAST_REDUCTION = 16

STRIP_PIXELS = 1 << 17  # read at once while a copy is made: half a megabyte in Pillow's form, which stays in the cache

Factors = tuple[int, int]


class ImagePyramid:
    """One image and its reduced copies.

    image: upright, (H, W, 3) uint8 or a Pillow image of mode RGB; it must not change. reduce_from: how many pixels a
    crop has that is no longer resized from all of them. Not meant for use by two threads at once.
    """

    def __init__(self, image: NDArray[np.uint8] | Image.Image, reduce_from: int = REDUCE_FROM_PIXELS) -> None:
        """Keep the image; nothing is computed yet."""
        self._image, self._reduce_from = image, reduce_from
        self.size: ImageSize = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
        self._copies: dict[Factors, NDArray[np.uint8]] = {}

    @classmethod
    def of(cls, image: AnyImage) -> ImagePyramid:
        """The pyramid of an image, or the same where it is one already."""
        return image if isinstance(image, ImagePyramid) else cls(image)

    @property
    def bytes(self) -> int:
        """Of the copies made so far."""
        return sum(copy.nbytes for copy in self._copies.values())

    def resized(
        self,
        corners: IntCorners,
        size: ImageSize,
        resampling: Image.Resampling,
        gap: float,
        reducing_gap: float | None = None,
    ) -> Image.Image:
        """Cut out the pixels (x1, y1, x2, y2) and resize them to `size`, (width, height); a Pillow image of mode RGB.

        reducing_gap: as of Pillow's `resize`, with the same bytes; None reduces nothing before the filter.
        gap: a large crop comes from a copy in which it still has at least this many times the pixels of `size` along
        each axis. Where no copy serves and reducing_gap is None, it is also the reducing gap of large crops.

        Nothing from outside the crop enters a small one. In a large one that comes from a copy, a pixel of the copy at
        the crop's edge may reach beyond it.
        """
        x1, y1, x2, y2 = corners
        across, down = x2 - x1, y2 - y1
        if across * down < self._reduce_from:
            return crop_pixels(self._image, corners).resize(size, resampling, reducing_gap=reducing_gap)
        fx, fy = _copy_factors(across / (gap * size[0]), down / (gap * size[1]))
        if fx * fy < LEAST_REDUCTION:  # in strips what Pillow would do with one large copy of the crop
            kept = reducing_gap or gap
            factors = max(1, int(across / size[0] / kept)), max(1, int(down / size[1] / kept))
            part = Image.fromarray(_reduced(self._image, corners, factors))
            return part.resize(size, resampling, box=(0, 0, across / factors[0], down / factors[1]))
        # Cropped first, because a resize reads beyond its box.
        left, top = x1 // fx, y1 // fy
        part = crop_pixels(self._copy((fx, fy)), (left, top, -(-x2 // fx), -(-y2 // fy)))
        box = (x1 / fx - left, y1 / fy - top, x2 / fx - left, y2 / fy - top)
        return part.resize(size, resampling, box=box, reducing_gap=reducing_gap)

    def _copy(self, factors: Factors) -> NDArray[np.uint8]:
        """The image reduced by these factors, (ceil(H / fy), ceil(W / fx), 3) uint8."""
        if factors not in self._copies:
            # From the finest copy of its kind, which reads less. Never by 2 x 2 of that: Pillow rounds a half up, which
            # would make the copy brighter by an eighth of a grey level.
            side = STEP if _power(STEP, factors[0]) == factors[0] else STEP * SQUARE_STEP
            source, rest = self._image, factors
            if min(factors) >= side and factors != (side, side):
                source, rest = self._copy((side, side)), (factors[0] // side, factors[1] // side)
            whole = source.size if isinstance(source, Image.Image) else (source.shape[1], source.shape[0])
            self._copies[factors] = _reduced(source, (0, 0, *whole), rest)
        return self._copies[factors]


AnyImage = NDArray[np.uint8] | Image.Image | ImagePyramid


def crop_pixels(image: NDArray[np.uint8] | Image.Image, corners: IntCorners) -> Image.Image:
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
    crop = Image.new("RGB", (x2 - x1, y2 - y1), None)  # None: not filled first, as `Image.frombytes` does
    crop.frombytes(rows.data, "raw", "RGB", row, 1)
    return crop


def _reduced(image: NDArray[np.uint8] | Image.Image, corners: IntCorners, factors: Factors) -> NDArray[np.uint8]:
    """Average blocks of factors (fx, fy) pixels of a crop: (ceil(h / fy), ceil(w / fx), 3) uint8; those at its right
    and lower edge are averaged from what is left. Reads a strip of rows at a time."""
    (x1, y1, x2, y2), (fx, fy) = corners, factors
    found = np.empty((-(-(y2 - y1) // fy), -(-(x2 - x1) // fx), 3), dtype=np.uint8)
    rows = max(1, STRIP_PIXELS // ((x2 - x1) * fy))  # of the result, in a strip
    for first in range(0, len(found), rows):
        top, bottom = y1 + first * fy, min(y1 + (first + rows) * fy, y2)
        found[first : first + rows] = np.asarray(crop_pixels(image, (x1, top, x2, bottom)).reduce(factors))
    return found


def _copy_factors(across: float, down: float) -> Factors:
    """Which copy serves a crop that may be reduced by so much along each axis: the one of the fewest pixels."""
    square = _power(SQUARE_STEP, min(across, down))
    fx, fy = _power(STEP, across), _power(STEP, down)
    return (fx, fy) if fx * fy > square * square else (square, square)


def _power(base: int, limit: float) -> int:
    """The largest power of `base` up to a limit; 1 where there is none."""
    power = 1
    while power * base <= limit:
        power *= base
    return power
