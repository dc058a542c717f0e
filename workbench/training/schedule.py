"""Learning rate and optimiser of the recipe (dynrefer.md, section 4; paper, section 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

_WARM_UP = 5000  # steps, of the released configuration
_WARM_UP_SHARE = 10  # at most one tenth of a short run


@dataclass(frozen=True)
class Schedule:
    """kind: "cosine" per step after a linear warm-up, or "official", constant within an epoch. steps: of the run."""

    kind: str
    peak: float
    steps: int
    steps_per_epoch: int
    warm_up: int

    def rate(self, step: int) -> float:
        """Learning rate of optimiser step `step`, counted from 0."""
        if self.kind == "official":
            epoch, epochs = step // self.steps_per_epoch, self.steps // self.steps_per_epoch
            return self.peak * (1 + math.cos(math.pi * epoch / epochs)) / 2
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.peak * (1 + math.cos(math.pi * done)) / 2


def make_schedule(kind: str, peak: float, steps_per_epoch: int, epochs: int, warm_up: int | None) -> Schedule:
    """warm_up None: 5,000 steps, or a tenth of the run if that is less."""
    steps = steps_per_epoch * epochs
    given = min(_WARM_UP, steps // _WARM_UP_SHARE) if warm_up is None else warm_up
    return Schedule(kind, peak, steps, steps_per_epoch, given)


def make_optimiser(module: nn.Module, rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is trained; no weight decay on biases, norms and single vectors."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)
