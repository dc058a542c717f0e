"""Whole images for conversers that see all of one at once, in one size. No torch: this runs in worker processes."""

from __future__ import annotations

import hashlib
import io
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

_GAP = 3.0  # large images are scaled from copies that have so many times their pixels
_QUALITY = 90  # of a JPEG


@dataclass(frozen=True, slots=True)
class WholeImageSpec:
    """A `ConverserSpec`: images keep their aspect. longest: most pixels of the longer side."""

    longest: int

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """See `ConverserSpec`."""
        return misplaced_regions(queries, size)

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """See `ConverserSpec`."""
        pyramid = ImagePyramid(image)
        scale = min(1.0, self.longest / max(pyramid.size))
        width, height = (max(1, round(side * scale)) for side in pyramid.size)
        return whole_turns(pyramid, (width, height), queries)


def whole_turns(image: ImagePyramid, size: ImageSize, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
    """One turn per conversation, with the whole image scaled to `size`, (width, height)."""
    pixels = np.asarray(image.resized((0, 0, *image.size), size, Image.Resampling.BICUBIC, _GAP))
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
    for query in queries:
        yield ConverseTurn(pixels, image.size, on_image(query, image.size), digest)


def turn_as_jpeg(turn: ConverseTurn) -> bytes:
    """The image that a turn shows, as a file."""
    stored = io.BytesIO()
    Image.fromarray(turn.pixels).save(stored, "JPEG", quality=_QUALITY)
    return stored.getvalue()
