"""The stages of a training, as Ferret-v2 has them: align regions with words, then many regions at once, then all.

There, a language model is trained already, and the first stage moves its projector alone. Here words are learnt too,
so every stage moves all weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynrefer.workbench.scenes.questions.records import Kind

_ALIGNED = frozenset(str(kind) for kind in (Kind.NAME, Kind.COLOUR, Kind.SIZE, Kind.DESCRIPTION, Kind.POSITION))
_DENSE = frozenset(str(kind) for kind in (Kind.SEVERAL, Kind.LISTING, Kind.LISTING_SOME, Kind.WHERE))


@dataclass(frozen=True)
class Stage:
    """share: of the minutes. rate: highest learning rate. kinds: of the questions; None: all."""

    name: str
    share: float
    rate: float
    kinds: frozenset[str] | None


STAGES = (
    Stage("alignment", 0.05, 1e-3, _ALIGNED),
    Stage("dense", 0.07, 1e-3, _ALIGNED | _DENSE),
    Stage("instructions", 0.88, 1e-3, None),
)
NAMES = tuple(stage.name for stage in STAGES)


def without(names: list[str]) -> tuple[Stage, ...]:
    """The stages but these, which share out all of the minutes."""
    kept = [stage for stage in STAGES if stage.name not in names]
    whole = sum(stage.share for stage in kept)
    return tuple(Stage(stage.name, stage.share / whole, stage.rate, stage.kinds) for stage in kept)
