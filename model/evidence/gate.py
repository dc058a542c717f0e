"""Drawing or photograph? A logistic regression on six numbers of one region and its image.

Two entropies and two maxima (of the network's categories and of the tower's names), and how unlike drawings the
tower's features are: the log of what is left of them outside the principal directions of drawn crops, for the region
and for the image as a whole. A residual needs no photograph to fit and almost separates by itself; the image's speaks
for small regions, which are blurred alike in drawings and photographs. The size of the crop is not among the numbers:
in the data it would separate perfectly, and outside it means nothing.

Shapes: R = regions, D = features of the tower, P = principal directions, K = labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.settings import read_number, read_numbers, read_object

Floats = NDArray[np.float32]

NUMBERS = ("residual", "image_residual", "network_entropy", "network_maximum", "tower_entropy", "tower_maximum")


@dataclass(frozen=True)
class DrawnFeatures:
    """What the tower's features of drawn crops look like: mean and deviation (D,), principal directions (P, D)."""

    mean: Floats
    deviation: Floats
    directions: Floats

    def __post_init__(self) -> None:
        size = self.mean.shape
        if len(size) != 1 or not size[0] or self.deviation.shape != size or self.directions.shape[1:] != size:
            raise ConfigError("the gate's mean, deviation and directions do not have the same number of features.")

    def log_residual(self, features: Floats) -> Floats:
        """(R, D) -> (R,): log of the mean square that the principal directions leave unexplained.

        Computed row by row, so that a region's number does not depend on how many are computed together.
        """
        return np.array([self._of_one(row) for row in features], dtype=np.float32)

    def _of_one(self, features: Floats) -> float:
        standard = (features - self.mean) / self.deviation
        explained = self.directions @ standard
        rest = float(np.square(standard).sum()) - float(np.square(explained).sum())
        return float(np.log(max(rest, 1e-6) / len(standard)))


@dataclass(frozen=True)
class Gate:
    """weights, mean, deviation: of `NUMBERS`, which are standardised first; bias: of the regression.

    drawn, drawn_images: the features of drawn regions, and of whole drawn scenes.
    """

    weights: Sequence[float]
    mean: Sequence[float]
    deviation: Sequence[float]
    bias: float
    drawn: DrawnFeatures
    drawn_images: DrawnFeatures

    def __post_init__(self) -> None:
        read_number(self.bias, "evidence.gate.bias")
        for name in ("weights", "mean", "deviation"):
            if len(read_numbers(getattr(self, name), f"evidence.gate.{name}")) != len(NUMBERS):
                raise ConfigError(f"the gate's {name} must be {len(NUMBERS)} numbers: {', '.join(NUMBERS)}.")
        if not all(each > 0 for each in self.deviation):
            raise ConfigError("the gate's deviation must be above 0.")

    @classmethod
    def from_config(cls, config: Mapping[str, object], drawn: DrawnFeatures, drawn_images: DrawnFeatures) -> Gate:
        """Raises `ConfigError` for a missing or unknown key, or a value that is no number or list of them."""
        if set(read_object(config, "evidence.gate")) != {"weights", "mean", "deviation", "bias"}:
            raise ConfigError("the gate needs weights, mean, deviation and bias, and nothing else.")
        return cls(**config, drawn=drawn, drawn_images=drawn_images)  # type: ignore[arg-type]

    def probability(self, network: Floats, tower: Floats, features: Floats, image: Floats) -> Floats:
        """(R,) that a region is from a photograph.

        network: (R, K) probabilities of the network's categories. tower: (R, K) of the tower's names. features, image:
        (R, D) the tower's features of the regions and of the images that they are in.
        """
        found = numbers(network, tower, self.drawn.log_residual(features), self.drawn_images.log_residual(image))
        standard = (found - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        logits = (standard * np.array(self.weights, np.float32)).sum(axis=1) + np.float32(self.bias)
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)


def numbers(network: Floats, tower: Floats, residual: Floats, image_residual: Floats) -> Floats:
    """The numbers of each region, (R, 6), in the order of `NUMBERS`; the residuals are logs."""
    columns = (residual, image_residual, entropy(network), network.max(axis=1), entropy(tower), tower.max(axis=1))
    return np.stack(columns, axis=1).astype(np.float32)


def entropy(probabilities: Floats) -> Floats:
    """(R, K) -> (R,), in nats."""
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, 1e-9))).sum(axis=1), dtype=np.float32)
