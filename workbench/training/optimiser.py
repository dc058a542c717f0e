"""Optimiser, learning-rate schedule, gradient clipping. Sources: paper, section 4.1; the released configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

_WARM_UP = 5000  # steps, as in the released configuration
_LEAST_WARM_UPS_PER_RUN = 10  # a short run warms up for a tenth of its steps


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run.

    kind: "cosine", per step after a linear warm-up; or "official", a cosine that is constant within an epoch.
    steps, warm_up: optimiser steps, of the whole run and of its warm-up.
    """

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
    """The schedule of a run. warm_up None: 5,000 steps, or a tenth of the run if that is less."""
    steps = steps_per_epoch * epochs
    given = min(_WARM_UP, steps // _LEAST_WARM_UPS_PER_RUN) if warm_up is None else warm_up
    return Schedule(kind, peak, steps, steps_per_epoch, given)


def make_optimiser(module: nn.Module, rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trained parameters; no weight decay on biases, norms and other vectors."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)


def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale all gradients down so that their total L2 norm is at most `max_norm`; of shards, that of the whole."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norms = [_whole(torch.linalg.vector_norm(gradient.float())) for gradient in gradients]
    factor = (max_norm / (torch.stack(norms).norm() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.dtype))


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value
