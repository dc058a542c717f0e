"""Tower and detector together: the classes of one, the boxes of the other -> probabilities of names.

The tower knows a thousand classes, among them no person and few things of a household; the detector knows COCO's
eighty. What the detector sees in a region makes the names under that class likelier, how these share its probability is
for the tower to say, and where the tower is sure of something else, the detector is believed less: much less if the
tower has classes of its own for what the detector names.

Shapes: K = names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.detector import COCO_NAMES
from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.model.evidence.settings import read_number, read_object

Floats = NDArray[np.float32]
_FEW = 5  # classes of ImageNet under a COCO class with no class of its very name, below which the tower lacks it
_LEAST, _MOST = 1e-3, 0.999  # a probability whose log odds are taken


@dataclass(frozen=True)
class FusionSettings:
    """temperature: divides the tower's logits where a region fills its image; vagueness: added, times `rooms`.

    commonness: power of the number of classes that a name stands for; its probability is divided by it, because the
    world has not as many dogs as ImageNet has breeds.

    support, bias: weights of the log odds that the detector's word holds: of the log of its support, and a constant.
    scene: weight of `rooms`.
    doubt, doubt_lacking: weight of the tower's log odds for its best name under another class; the second for classes
    that the tower lacks. lacking: added for these. general: the part of a class's probability that its own name gets
    where the tower sees nothing under it, in units of the tower's probability.
    """

    temperature: float
    vagueness: float
    commonness: float
    support: float
    bias: float
    scene: float
    doubt: float
    doubt_lacking: float
    lacking: float
    general: float
    general_lacking: float


class Fusion:
    """Computes names; the settings are fitted by `workbench/evidence/calibration.py`."""

    def __init__(self, settings: FusionSettings, names: EvidenceNames) -> None:
        self.settings, self._names = settings, names
        coco = {name: place for place, name in enumerate(COCO_NAMES)}
        self._own = np.array([_own_name(name, names) for name in COCO_NAMES])
        self._under = np.zeros((len(COCO_NAMES), len(names.names)), dtype=np.float64)
        classes = np.zeros(len(COCO_NAMES))
        for place, entry in enumerate(names.names):
            if entry.coco is not None:
                self._under[coco[entry.coco], place] = 1.0
                classes[coco[entry.coco]] += len(entry.classes)
        unnamed = np.array([not names.names[place].classes for place in self._own])
        self._counts = np.array([max(1, len(entry.classes)) for entry in names.names], dtype=np.float64)
        self._lacking = unnamed & (classes < _FEW)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], names: EvidenceNames) -> Fusion:
        """names: as `check_classes` wants them. Raises `ConfigError` for a missing or unknown key, or no number."""
        known = [each.name for each in fields(FusionSettings)]
        if set(read_object(config, "evidence.fusion")) != set(known):
            raise ConfigError(f"evidence.fusion must hold {', '.join(known)}, and nothing else.")
        numbers = {key: read_number(value, f"evidence.fusion.{key}") for key, value in config.items()}
        return cls(FusionSettings(**numbers), names)

    def tower_alone(self, logits: Floats) -> Floats:
        """The tower's probabilities of names (K,) as they come; logits: (1000,)."""
        return np.asarray(self._names.fold(softmax(logits)[None])[0], dtype=np.float32)

    def names_of(self, logits: Floats, support: Floats, coverage: float) -> Floats:
        """Probabilities (K,) of one region's names, by tower and detector.

        logits: (1000,) the tower's. support: (80,) the detector's. coverage: the region's part of its image's area.
        """
        own = self.settings
        temperature = max(own.temperature + own.vagueness * rooms(coverage), _LEAST)
        tower = self._names.fold(softmax(logits / np.float32(temperature))[None])[0] / self._counts**own.commonness
        tower /= tower.sum()
        return self._mix(tower, self.believed(tower, support, coverage))

    def believed(self, tower: NDArray[np.float64], support: Floats, coverage: float) -> NDArray[np.float64]:
        """Probabilities (80,) that the region is of each class by the detector's word; what is left of 1 is the
        tower's. tower: (K,)."""
        own = self.settings
        other = np.where(self._under == 0, tower, 0.0).max(axis=1)
        doubt = np.where(self._lacking, own.doubt_lacking, own.doubt) * _logit(other)
        constant = own.bias + own.scene * rooms(coverage)
        odds = own.support * np.log(np.maximum(support.astype(np.float64), 1e-6)) + constant - doubt
        found = 1 / (1 + np.exp(-(odds + np.where(self._lacking, own.lacking, 0.0))))
        return np.asarray(found / max(1.0, float(found.sum())))

    def _mix(self, tower: NDArray[np.float64], believed: NDArray[np.float64]) -> Floats:
        """sum over classes c of P(c) P(name | c), and the tower's own for the rest; both (K,)."""
        own, names = self.settings, (1.0 - float(believed.sum())) * tower
        for place in np.flatnonzero(believed > 1e-4):
            under = self._under[place] * tower
            under[self._own[place]] += own.general_lacking if self._lacking[place] else own.general
            names += believed[place] * (under / under.sum())
        return np.asarray(names / names.sum(), dtype=np.float32)


def rooms(coverage: float) -> float:
    """Log of how many times a region fits into its image, at most 7.

    ImageNet's pictures are filled by what they show, so the tower is at home in a region that fills its image, and the
    detector in a part of a scene.
    """
    return float(-np.log(max(coverage, _LEAST)))


def check_classes(names: EvidenceNames, path: Path) -> None:
    """Raise `ConfigError` unless every class of COCO has a name, and no name another class. path: of the names."""
    classes = {entry.coco for entry in names.names} - {None}
    if odd := sorted(map(str, classes - set(COCO_NAMES))):
        raise ConfigError(f"coco in {path} is {odd[0]!r:.40}, which is no class of COCO.")
    for name in COCO_NAMES:
        if name not in classes and name not in names:
            raise ConfigError(f"no name in {path} stands for COCO's {name!r}.")


def _own_name(coco: str, names: EvidenceNames) -> int:
    """The place of the name that says a COCO class in general: the same word, else ("remote") the one under it."""
    if coco in names:
        return names.index(coco)
    return next(place for place, entry in enumerate(names.names) if entry.coco == coco)


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Of one row, in float64."""
    exponentials = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(exponentials / exponentials.sum())


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(probability, _LEAST, _MOST)
    return np.asarray(np.log(inside / (1 - inside)))
