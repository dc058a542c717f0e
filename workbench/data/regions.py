"""Regions of many images, whatever they come from: drawn scenes or a file of annotations. Shapes: R = regions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.types import Corners, Task


@dataclass(frozen=True)
class ImageRegions:
    """An image and the boxes of its regions, xyxy pixels of the upright image.

    load: reads the image, (H, W, 3) uint8 RGB, upright. name: for messages.
    """

    load: Callable[[], NDArray[np.uint8]]
    boxes: tuple[Corners, ...]
    name: str


class Regions(Protocol):
    """R regions, image by image."""

    @property
    def names(self) -> Mapping[Task, tuple[str, ...]]:
        """Recognition task -> the labels that are scored, in the order of the columns."""
        ...

    def __len__(self) -> int:
        """R."""
        ...

    def image_regions(self) -> Iterable[ImageRegions]:
        """The images in order; their boxes, in order, are the R regions."""
        ...
