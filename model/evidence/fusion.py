"""Tower and detector together: the classes of one, the boxes of the other -> probabilities of names.

The tower knows a thousand classes, among them no person and few things of a household; the detector knows COCO's
eighty. A class that the detector sees in a region makes the names that fall under it likelier; how these share its
probability is for the tower to say.

Shapes: K = names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.detector import COCO_NAMES
from dynrefer.model.evidence.names import EvidenceNames

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FusionSettings:
    """temperature: divides the tower's logits. scale, bias: of the logistic function of the detector's support.
    general: how much of a COCO class's probability is for the class's own name where the tower sees none under it."""

    temperature: float
    scale: float
    bias: float
    general: float


class Fusion:
    """Computes names; settings are fitted by `workbench/evidence/calibration.py`."""

    def __init__(self, settings: FusionSettings, names: EvidenceNames) -> None:
        self.settings, self._names = settings, names
        coco = {name: place for place, name in enumerate(COCO_NAMES)}
        self._own = np.array([names.index(name) for name in COCO_NAMES])
        self._under = np.zeros((len(COCO_NAMES), len(names.names)), dtype=np.float32)
        for place, entry in enumerate(names.names):
            if entry.coco is not None:
                self._under[coco[entry.coco], place] = 1.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any], names: EvidenceNames) -> Fusion:
        """Raises `ConfigError` for a missing or unknown key."""
        try:
            return cls(FusionSettings(**config), names)
        except TypeError as error:
            known = ", ".join(each.name for each in fields(FusionSettings))
            raise ConfigError(f"evidence.fusion must hold {known}, and nothing else.") from error

    def names_of(self, logits: Floats, support: Floats) -> tuple[Floats, Floats]:
        """The tower's logits (1000,) and the detector's support (80,) of one region -> two rows (K,) of probabilities:
        the tower's alone, without temperature, and those of both."""
        alone = self._names.fold(softmax(logits)[None])[0]
        tower = self._names.fold(softmax(logits / np.float32(self.settings.temperature))[None])[0]
        return alone, self._mix(tower, self._seen(support))

    def _seen(self, support: Floats) -> Floats:
        """Probabilities (80,) that the region is of each class; what is left of 1 is for none of them."""
        logits = support.astype(np.float64) * self.settings.scale + self.settings.bias
        seen = 1 / (1 + np.exp(-logits))
        return np.asarray(seen / max(1.0, float(seen.sum())), dtype=np.float32)

    def _mix(self, tower: Floats, seen: Floats) -> Floats:
        """sum over classes c of P(c) P(name | c), and the tower's own for the rest; both (K,)."""
        names = (1.0 - float(seen.sum())) * tower
        for place in np.flatnonzero(seen > 1e-4):
            under = self._under[place] * tower
            under[self._own[place]] += self.settings.general
            names += seen[place] * (under / under.sum())
        return np.asarray(names / names.sum(), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Of one row, in float64."""
    exponentials = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(exponentials / exponentials.sum(), dtype=np.float32)
