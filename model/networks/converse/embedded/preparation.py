"""How an image is prepared for the embedded converser. No torch: this runs in worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dynrefer.model.conversation import Conversation
from dynrefer.model.conversed_regions import misplaced_regions, on_image
from dynrefer.model.conversing import ConverseTurn
from dynrefer.model.errors import QueryError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.pyramid import ImagePyramid

LONGEST = 1024  # pixels of the image's longer side: crops are cut from it, and six tiles of it are searched
_GAP = 3.0  # large images are scaled from copies that have so many times their pixels


@dataclass(frozen=True, slots=True)
class EmbeddedConverserSpec:
    """A `ConverserSpec`. longest: of the image's longer side, pixels; smaller images stay as they are."""

    longest: int = LONGEST

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """See `ConverserSpec`."""
        return misplaced_regions(queries, size)

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """See `ConverserSpec`."""
        size = (image.shape[1], image.shape[0])
        pixels = np.ascontiguousarray(self._scaled(image, size))
        digest = hashlib.sha256(repr((pixels.shape, size)).encode())
        digest.update(pixels.data)
        for query in queries:
            yield ConverseTurn(pixels, size, on_image(query, size), digest.digest())

    def _scaled(self, image: Pixels, size: ImageSize) -> Pixels:
        if max(size) <= self.longest:
            return image
        ratio = self.longest / max(size)
        width, height = (max(1, round(side * ratio)) for side in size)
        resized = ImagePyramid(image).resized((0, 0, *size), (width, height), Image.Resampling.BICUBIC, _GAP)
        return np.asarray(resized)
