"""How images are prepared for Qwen3-VL. No torch: this runs in worker processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynrefer.model.conversation import Conversation
from dynrefer.model.conversed_regions import misplaced_regions
from dynrefer.model.conversing import ConverseTurn
from dynrefer.model.errors import ConversationError, QueryError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.pyramid import ImagePyramid
from dynrefer.model.whole_images import whole_turns

LONGEST_ASPECT = 200  # of the sides, beyond which the released processor refuses an image, too


@dataclass(frozen=True, slots=True)
class Qwen3VLSpec:
    """A `ConverserSpec`. factor: what both sides are multiples of, in pixels: a token of the language model shows so
    many squared. least, most: pixels of the scaled image."""

    factor: int
    least: int
    most: int

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """See `ConverserSpec`."""
        if max(size) <= LONGEST_ASPECT * min(size):
            return misplaced_regions(queries, size)
        sentence = f"The image is more than {LONGEST_ASPECT} times as long as wide: this converser sees no such image."
        return [ConversationError(sentence, "image") for _ in queries]

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """See `ConverserSpec`."""
        pyramid = ImagePyramid(image)
        return whole_turns(pyramid, self.scaled(pyramid.size), queries)

    def scaled(self, size: ImageSize) -> ImageSize:
        """(width, height) of an image of this (width, height) as the network sees it: its sides are multiples of
        `factor`, its pixels within the bounds, its aspect as near as that allows (transformers' `smart_resize`)."""
        sides = [max(1, round(side / self.factor)) for side in size]
        ratio = math.prod(size)
        if math.prod(sides) * self.factor**2 > self.most:
            scale = math.sqrt(self.most / ratio)
            sides = [max(1, math.floor(side * scale / self.factor)) for side in size]
        elif math.prod(sides) * self.factor**2 < self.least:
            scale = math.sqrt(self.least / ratio)
            sides = [math.ceil(side * scale / self.factor) for side in size]
        width, height = (side * self.factor for side in sides)
        return width, height
