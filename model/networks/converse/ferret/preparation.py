"""How an image is prepared for Ferret: the whole of it small, and its tiles. No torch, for worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.conversation import Conversation
from dynrefer.model.conversed_regions import misplaced_regions, on_image
from dynrefer.model.conversing import ConverseTurn
from dynrefer.model.errors import QueryError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.model.networks.converse.ferret.grids import Grid, content_size, pick_grid
from dynrefer.model.pyramid import ImagePyramid

_GAP = 3.0  # large images are scaled from copies that have so many times their pixels
_EMPTY = 128  # what of a canvas is no image


@dataclass(frozen=True, slots=True)
class FerretSpec:
    """A `ConverserSpec`. side: of a view in pixels. patch: of the tiles' tower. grids: empty for the whole image alone,
    at low resolution."""

    side: int
    patch: int
    grids: tuple[Grid, ...]

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """See `ConverserSpec`: regions that are not on the image."""
        return misplaced_regions(queries, size)

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """See `ConverserSpec`. pixels: the views one below the other, (V * S, S, 3): the whole image without regard to
        its aspect, then its tiles from left to right, row by row."""
        pyramid = ImagePyramid(image)
        size = pyramid.size
        pixels = np.concatenate([_scaled(pyramid, (self.side, self.side)), *self._tiles(pyramid)])
        digest = hashlib.sha256(repr((size, self)).encode())
        digest.update(pixels.data)
        for query in queries:
            yield ConverseTurn(pixels, size, on_image(query, size), digest.digest())

    def grid(self, size: ImageSize) -> Grid | None:
        """Of an image of (width, height); None without tiles."""
        return pick_grid(size, self.side, self.grids) if self.grids else None

    def cells(self, size: ImageSize) -> tuple[int, int]:
        """(rows, columns) of the tiles' joint feature map that lie on the image; those of one view without tiles."""
        grid = self.grid(size)
        width, height = content_size(size, grid, self.side, self.patch) if grid else (self.side, self.side)
        return height // self.patch, width // self.patch

    def _tiles(self, pyramid: ImagePyramid) -> list[NDArray[np.uint8]]:
        grid = self.grid(pyramid.size)
        if grid is None:
            return []
        width, height = content_size(pyramid.size, grid, self.side, self.patch)
        canvas = np.full((grid.rows * self.side, grid.columns * self.side, 3), _EMPTY, dtype=np.uint8)
        canvas[:height, :width] = _scaled(pyramid, (width, height))
        rows = [canvas[top : top + self.side] for top in range(0, len(canvas), self.side)]
        return [row[:, left : left + self.side] for row in rows for left in range(0, canvas.shape[1], self.side)]


def _scaled(pyramid: ImagePyramid, size: ImageSize) -> NDArray[np.uint8]:
    return np.asarray(pyramid.resized((0, 0, *pyramid.size), size, Image.Resampling.BICUBIC, _GAP))
