"""The stages of a training, as Ferret-v2 has them: align regions with words, then many regions at once, then all.

There, a language model is trained already, and the first stage moves its projector alone. Here words are learnt too,
so every stage moves all weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dynrefer.workbench.scenes.questions.records import Kind

_ALIGNED = frozenset(str(kind) for kind in (Kind.NAME, Kind.COLOUR, Kind.SIZE, Kind.DESCRIPTION, Kind.POSITION))
_DENSE = frozenset(str(kind) for kind in (Kind.SEVERAL, Kind.LISTING, Kind.LISTING_SOME, Kind.WHERE))

_HARD = {str(Kind.SAME_COLOUR): 4, str(Kind.RELATION): 2, str(Kind.DESCRIPTION): 2, str(Kind.COUNT): 2}


@dataclass(frozen=True)
class Stage:
    """share: of the minutes. rate: highest learning rate. kinds: of the questions; None: all. often: how many times as
    often as others some are asked, which are harder to learn than they are frequent."""

    name: str
    share: float
    rate: float
    kinds: frozenset[str] | None
    often: Mapping[str, int] = field(default_factory=dict)


STAGES = (
    Stage("alignment", 0.05, 1e-3, _ALIGNED),
    Stage("dense", 0.07, 1e-3, _ALIGNED | _DENSE),
    Stage("instructions", 0.88, 1e-3, None, _HARD),
)
NAMES = tuple(stage.name for stage in STAGES)


def without(names: list[str]) -> tuple[Stage, ...]:
    """The stages but these, which share out all of the minutes."""
    kept = [stage for stage in STAGES if stage.name not in names]
    whole = sum(stage.share for stage in kept)
    return tuple(replace(stage, share=stage.share / whole) for stage in kept)
