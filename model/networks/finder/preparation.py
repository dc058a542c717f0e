"""How an image is prepared for the embedded finder. No torch: this runs in worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import QueryError
from dynrefer.model.evidence.crops import PADDING, cut_crop
from dynrefer.model.finding import FinderInput, FindQuery
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.pyramid import ImagePyramid

_MULTIPLE = 32  # sides that networks take are multiples of it
_GAP = 3.0  # large images are scaled from copies that have so many times their pixels


@dataclass(frozen=True, slots=True)
class EmbeddedFinderSpec:
    """A `FinderSpec`. side: longest side of the image as the network sees it. photograph_side: as the detector of
    photographs does; a smaller image is not enlarged for it."""

    side: int
    photograph_side: int

    def larger_side(self, size: ImageSize) -> int:
        """The longest side of the image as the detector of photographs sees it."""
        return max(min(self.photograph_side, max(size)), _MULTIPLE)

    def invalid(self, queries: Sequence[FindQuery], size: ImageSize) -> list[QueryError]:
        """See `FinderSpec`: any image can be searched for anything."""
        return []

    def prepare_each(self, image: Pixels, queries: Sequence[FindQuery]) -> Iterator[FinderInput]:
        """See `FinderSpec`. more: the image for the detector of photographs, and (3, 224, 224) for the tower."""
        pyramid = ImagePyramid(image)
        size = pyramid.size
        pixels = scaled(pyramid, self.side)
        larger = scaled(pyramid, self.larger_side(size))
        whole = cut_crop(pyramid, (0, 0, *size))
        for query in queries:
            yield FinderInput(pixels, size, query, (larger, whole))


def scaled(pyramid: ImagePyramid, side: int) -> NDArray[np.uint8]:
    """The image with this longest side, (h, w, 3) uint8, grey at right and below up to multiples of 32."""
    width, height = scaled_size(pyramid.size, side)
    pixels = pyramid.resized((0, 0, *pyramid.size), (width, height), Image.Resampling.BILINEAR, _GAP)
    padded = np.full((_whole(height), _whole(width), 3), PADDING, dtype=np.uint8)
    padded[:height, :width] = np.asarray(pixels)
    return padded


def scaled_size(size: ImageSize, side: int) -> ImageSize:
    """(width, height) of an image with this longest side, at least one pixel each."""
    ratio = side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _whole(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE
