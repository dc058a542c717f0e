"""How images are prepared for released finders. No torch: this runs in worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dynrefer.model.errors import QueryError
from dynrefer.model.finding import FinderInput, FindQuery
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.pyramid import ImagePyramid

_GAP = 3.0  # large images are scaled from copies that have so many times their pixels


@dataclass(frozen=True, slots=True)
class ReleasedFinderSpec:
    """A `FinderSpec`. shortest, longest: sides of the image after scaling, as in Grounding DINO: the shorter side is
    `shortest`, unless the longer would be more than `longest`. square: whether the image is laid on a square of side
    `longest`, grey at right and below, as OWLv2 has it."""

    shortest: int
    longest: int
    square: bool = False

    def invalid(self, queries: Sequence[FindQuery], size: ImageSize) -> list[QueryError]:
        """See `FinderSpec`: any image can be searched."""
        return []

    def prepare_each(self, image: Pixels, queries: Sequence[FindQuery]) -> Iterator[FinderInput]:
        """See `FinderSpec`."""
        pyramid = ImagePyramid(image)
        width, height = self.scaled(pyramid.size)
        whole = (0, 0, *pyramid.size)
        pixels = np.asarray(pyramid.resized(whole, (width, height), Image.Resampling.BILINEAR, _GAP))
        if self.square:
            canvas = np.full((self.longest, self.longest, 3), 128, dtype=np.uint8)
            canvas[:height, :width] = pixels
            pixels = canvas
        for query in queries:
            yield FinderInput(pixels, pyramid.size, query)

    def scaled(self, size: ImageSize) -> ImageSize:
        """(width, height) of an image of this (width, height) as the network sees it."""
        ratio = self.longest / max(size)
        if not self.square:
            ratio = min(ratio, self.shortest / min(size))
        return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
