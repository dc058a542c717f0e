"""What the object of a region is: decided once per region, and then said by all of its outputs.

Shapes: K = names of the evidence, C = categories of the network, L = colours, I = classes of ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Identity:
    """The name of a region's object, and how it was found.

    name: the word that caption, tags and categories say. probability: of it, calibrated.
    categories: (C,) the network's probabilities of its own categories.
    is_parent: whether it is a broader word, said because no single name has a probability of a half.
    photograph: whether the region was taken for a photograph, so that the evidence speaks and not the network.
    photograph_probability: of that decision.
    names: (K,) the evidence's probabilities of its names, of a photograph; else empty.
    classes: (I,) the part of its name's probability that each class has, by the tower, of a photograph; else empty.
    colours: (L,) probabilities of `colour.COLOURS`, of a photograph; else empty.
    colour: the colour that is said of a photographed object, or None.
    """

    name: str
    probability: float
    categories: Floats
    is_parent: bool = False
    photograph: bool = False
    photograph_probability: float = 0.0
    names: Floats = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    colours: Floats = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    colour: str | None = None
    classes: Floats = field(default_factory=lambda: np.empty(0, dtype=np.float32))

    @property
    def domain(self) -> str:
        """What the region was taken for."""
        return "photograph" if self.photograph else "drawing"
