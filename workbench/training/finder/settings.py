"""What a training of the finder is made of: three stages, as DetCLIPv3 has them.

The detector at low resolution, first on single objects, then on scenes; then what hangs on it, here the mask head, with
the detector frozen; then all together at high resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from dynrefer.workbench.training.finder.losses import LossWeights

# Names that no training image shows: what is measured with them says what the finder does with a name it never saw.
HELD_OUT_NAMES = (
    "giraffe", "skateboard", "pizza", "clock", "rabbit", "butterfly", "tractor", "guitar", "hammer", "strawberry",
    "cactus", "crown",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """steps: batches. sides: of the canvas, one drawn per batch, pixels. rate: highest learning rate. batch: images.

    close: whether a canvas shows one object and what is around it. frozen: whether only the mask head is trained.
    """

    name: str
    steps: int
    sides: tuple[int, ...]
    rate: float
    batch: int
    weights: LossWeights
    close: bool = False
    frozen: bool = False


LOSSES = tuple(each.name for each in fields(LossWeights))
UNUSUAL = {"cross_image": 0.5, "masked_words": 0.5}  # what losses count that the finder that ships does not have


def switched(plan: Sequence[Stage], extra: Sequence[str] = (), without: Sequence[str] = ()) -> tuple[Stage, ...]:
    """The stages with losses of `UNUSUAL` added, and losses of `LOSSES` switched off.

    A stage that is left without a loss is left out.
    """
    found = []
    for stage in plan:
        # A frozen detector learns nothing from further losses.
        changed = {name: UNUSUAL[name] for name in extra if not stage.frozen} | dict.fromkeys(without, 0.0)
        weights = replace(stage.weights, **changed)
        if any(getattr(weights, name) for name in LOSSES):
            found.append(replace(stage, weights=weights))
    return tuple(found)


def stages(scale: float = 1.0) -> tuple[Stage, ...]:
    """The stages of the finder that ships, each with `scale` times its steps."""
    no_mask = LossWeights(mask=0.0)
    return (
        Stage("objects", round(2000 * scale), (64, 96), 2e-3, 112, no_mask, close=True),
        Stage("detector", round(2400 * scale), (192, 224, 256, 288), 1.6e-3, 16, no_mask),
        Stage("masks", round(300 * scale), (224,), 2e-3, 16, LossWeights(0, 0, 0, 0, 1), frozen=True),
        Stage("all", round(2000 * scale), (288, 320, 352, 384), 1e-3, 12, LossWeights(contrast=0.5)),
    )
