"""What is seen of an image: plain arrays, kept in caches and in files of training. No torch.

Shapes: N = objects, C = channels of a region representation, K = the describer's categories, A = its attributes,
T = its tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.identity import Identity
from dynrefer.model.geometry import ImageSize

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SeenObjects:
    """Objects, or asked regions, of one image.

    boxes: (N, 4) xyxy pixels of the upright image. objectness: (N,) that there is an object; 1 of an asked region.
    features: (N, C) the mean of each representation's tokens. categories: (N, K) and attributes: (N, A) probabilities.
    identities: (N,) by which photographs are named; empty where the image is taken for a drawing.
    """

    boxes: Floats
    objectness: Floats
    features: Floats
    categories: Floats
    attributes: Floats
    identities: tuple[Identity, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        own = sum(int(getattr(self, field.name).nbytes) for field in fields(self) if field.name != "identities")
        return own + sum(each.categories.nbytes + each.names.nbytes + each.classes.nbytes for each in self.identities)

    @classmethod
    def joined(cls, parts: Sequence[SeenObjects]) -> SeenObjects:
        """All of them, in order."""
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name != "identities"
        }
        return cls(**arrays, identities=tuple(each for part in parts for each in part.identities))


@dataclass(frozen=True, slots=True, eq=False)
class SeenImage:
    """An image as a whole, and its objects. size: (W, H). objects: best objectness first. features: (C,) of the region
    that is all of the image. tags: (T,) probabilities of it. photograph: probability that it is no drawing."""

    size: ImageSize
    objects: SeenObjects
    features: Floats
    tags: Floats
    photograph: float

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        return self.objects.nbytes + self.features.nbytes + self.tags.nbytes
