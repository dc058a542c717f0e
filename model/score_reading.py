"""How the scores of a finder are read: which are answered, and which probabilities they mean. No torch or NumPy.

Finders score differently, and one finder drawings and photographs: so each says with its candidates how to read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dynrefer.model.errors import ConfigError

_LEAST = 1e-6  # distance of a score from 0 and 1, beyond which its logit stands still


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = 1 / (1 + exp(-(scale x logit(score) + bias))), Platt scaling of the score's logit; the score itself
    where nothing was fitted."""

    scale: float = 1.0
    bias: float = 0.0

    def probability(self, score: float) -> float:
        """score: in [0, 1]."""
        score = min(max(score, _LEAST), 1 - _LEAST)
        return 1 / (1 + math.exp(-(self.scale * math.log(score / (1 - score)) + self.bias)))


@dataclass(frozen=True, slots=True)
class ScoreReading:
    """threshold, phrase_threshold, proposal_threshold: least score of a region of a name, of a noun phrase, and where
    nothing is asked for, unless a request sets one.

    region, proposal: that the object of a region is of the name; that a proposed region is an object. presence: from
    the best score of a name, that the image shows such an object.
    """

    threshold: float = 0.3
    phrase_threshold: float = 0.3
    proposal_threshold: float = 0.3
    region: Calibration = Calibration()
    proposal: Calibration = Calibration()
    presence: Calibration = Calibration()

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], where: str) -> ScoreReading:
        """As `as_mapping` writes it; what is left out has its default. where: for the error's text.

        Raises `ConfigError` for an unknown key, and for what is no number.
        """
        own = {field.name: field.default for field in fields(cls)}
        _check_keys(given, own, where)
        found: dict[str, Any] = {}
        for name, value in given.items():
            if isinstance(own[name], Calibration):
                parts = value if isinstance(value, Mapping) else {"": value}
                _check_keys(parts, [field.name for field in fields(Calibration)], f"{where}: {name!r}")
                found[name] = Calibration(**{part: _number(parts[part], f"{where}: {name!r}") for part in parts})
            else:
                found[name] = _number(value, f"{where}: {name!r}")
        return cls(**found)

    def as_mapping(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def _check_keys(given: Mapping[str, Any], known: Mapping[str, Any] | list[str], where: str) -> None:
    if odd := [key for key in given if key not in known]:
        raise ConfigError(f"{where} has an unknown key {odd[0]!r}; it holds {', '.join(known)}.")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where} holds {value!r}, which is no number.")
    return float(value)
