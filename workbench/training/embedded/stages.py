"""The stages of the recipe as data.

The first ones train from random weights. The added ones go on from there, or from a finished model, and teach what
drawings alone do not: pictures that were stored as JPEG, and captions with a placeholder for the noun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["pretrain", "joint", "all", "language"]


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe. crops, scenes: per batch. view_size: pixels. seed: of the batches.

    kind: "pretrain" trains the towers, "joint" all but the towers, "all" the vision tower too, "language" the language
    model with its projection and control vector.
    pool: first seed and number of the scenes that the batches are made of. warm_up: steps. clip: maximum norm of the
    gradients. attribute_weight: of a mean over all attributes; with 1, each counts little beside the category.
    tag_weight: of a sum over all tags.
    heads_first: steps in which a pretraining stage trains new heads on fixed towers; 0: it goes on with the heads of
    the stage before.
    jpeg: proportion of the pictures that are stored as JPEG first. placeholder: in most captions it stands for the
    noun.
    photograph_backgrounds: proportion of the scenes with a photograph as background.
    """

    name: str
    kind: Kind
    steps: int
    crops: int
    scenes: int
    learning_rate: float
    view_size: int
    seed: int
    pool: tuple[int, int]
    weight_decay: float = 0.05
    warm_up: int = 150
    clip: float = 2.0
    attribute_weight: float = 10.0
    tag_weight: float = 0.15
    heads_first: int = 0
    jpeg: float = 0.0
    placeholder: bool = False
    photograph_backgrounds: float = 0.0


# 10,000 scenes (53,000 regions) are memorised in seven passes of close-ups, so later stages use other scenes.
_FIRST, _SECOND = (10_000_000, 10_000), (30_000_000, 40_000)
_THIRD, _FOURTH, _FIFTH = (50_000_000, 25_000), (100_000_000, 40_000), (150_000_000, 10_400)
_SIXTH, _SEVENTH = (110_000_000, 40_000), (180_000_000, 5_600)
_EIGHTH, _NINTH = (120_000_000, 40_000), (190_000_000, 11_200)
# The decoders are first trained on half-trained towers, which is cheap; then the towers get their main training; then
# both are trained together.
FROM_RANDOM = (
    Stage("close-32", "pretrain", 2400, 256, 0, 2e-3, 32, seed=11, pool=_FIRST, attribute_weight=2.0),
    Stage("dense-64", "pretrain", 2400, 96, 16, 1e-3, 64, seed=12, pool=_SECOND, attribute_weight=2.0),
    Stage("close-64", "pretrain", 1300, 128, 4, 1e-3, 64, seed=13, pool=_THIRD, attribute_weight=2.0),
    Stage("joint", "joint", 1400, 0, 16, 1e-3, 64, seed=14, pool=_THIRD, attribute_weight=1.0, tag_weight=0.05),
    Stage("towers", "pretrain", 7000, 128, 6, 1e-3, 64, seed=17, pool=_FOURTH),
    Stage("decoders", "joint", 900, 0, 16, 1e-3, 64, seed=18, pool=_FOURTH),
    Stage("all", "all", 650, 0, 16, 5e-4, 64, seed=19, pool=_FIFTH, warm_up=50),
    # The same three once more, on other scenes.
    Stage("towers-again", "pretrain", 5000, 144, 4, 1e-3, 64, seed=21, pool=_SIXTH, attribute_weight=5.0),
    Stage("decoders-again", "joint", 500, 0, 16, 1e-3, 64, seed=22, pool=_SIXTH, warm_up=50, attribute_weight=5.0),
    Stage("all-again", "all", 350, 0, 16, 5e-4, 64, seed=23, pool=_SEVENTH, warm_up=30, attribute_weight=5.0),
    # And a third time: a lower learning rate for the towers, and more steps for all parts together.
    Stage("towers-third", "pretrain", 5000, 144, 4, 7e-4, 64, seed=31, pool=_EIGHTH, attribute_weight=5.0),
    Stage("decoders-third", "joint", 500, 0, 16, 1e-3, 64, seed=32, pool=_EIGHTH, warm_up=50, attribute_weight=5.0),
    Stage("all-third", "all", 700, 0, 16, 5e-4, 64, seed=33, pool=_NINTH, warm_up=30, attribute_weight=5.0),
)
_TENTH, _ELEVENTH = (1_000_000_000, 24_000), (1_100_000_000, 16_000)
_TWELFTH, _THIRTEENTH = (1_200_000_000, 12_000), (1_300_000_000, 8_000)
# Some pictures stay exact, so that exact ones are not forgotten.
_JPEG: dict[str, Any] = {"jpeg": 0.6, "attribute_weight": 5.0, "photograph_backgrounds": 0.2}
_BOTH = _JPEG | {"placeholder": True}
_MORE = _JPEG | {"jpeg": 0.85}
_BOTH_MORE = _MORE | {"placeholder": True}
ADDED = (
    Stage("towers-jpeg", "pretrain", 5000, 144, 4, 5e-4, 64, 41, _TENTH, 0.05, 60, heads_first=30, **_JPEG),
    Stage("decoders-jpeg", "joint", 500, 0, 16, 7e-4, 64, 42, _TENTH, 0.05, 30, **_BOTH),
    Stage("all-jpeg", "all", 1400, 0, 16, 4e-4, 64, 43, _ELEVENTH, 0.05, 30, **_BOTH),
    Stage("language", "language", 1200, 0, 24, 1e-3, 64, 44, _ELEVENTH, 0.01, 50, clip=1.0, **_BOTH),
    # Once more on other scenes and with more of them stored: after the first round JPEG still cost .04 of the names.
    Stage("towers-jpeg-again", "pretrain", 3000, 144, 4, 4e-4, 64, 51, _TWELFTH, 0.05, 60, heads_first=30, **_MORE),
    Stage("all-jpeg-again", "all", 700, 0, 16, 4e-4, 64, 53, _THIRTEENTH, 0.05, 30, **_BOTH_MORE),
    Stage("language-again", "language", 600, 0, 24, 7e-4, 64, 54, _THIRTEENTH, 0.01, 50, clip=1.0, **_BOTH_MORE),
)
RECIPE = (*FROM_RANDOM, *ADDED)
_SEED_STRIDE, _POOL_STRIDE = 1_000, 1_000_000


def varied(stages: Sequence[Stage], seed: int) -> tuple[Stage, ...]:
    """The stages with the added ones' batches and scenes chosen by `seed`; 0 leaves them as they are."""
    added = {stage.name for stage in ADDED}
    return tuple(_shifted(stage, seed) if stage.name in added else stage for stage in stages)


def _shifted(stage: Stage, seed: int) -> Stage:
    first, count = stage.pool
    return replace(stage, seed=stage.seed + _SEED_STRIDE * seed, pool=(first + _POOL_STRIDE * seed, count))
