"""Learning rates over a run, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dynrefer.workbench.training.optimiser import make_optimiser, make_schedule


def test_cosine_after_a_warm_up() -> None:
    schedule = make_schedule("cosine", 1e-3, steps_per_epoch=25, epochs=4, warm_up=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == pytest.approx(1e-3) == pytest.approx(max(rates))
    assert rates[55] == pytest.approx(5e-4)
    assert rates[99] < 1e-6 and rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("steps_per_epoch", "warm_up"), [(100_000, 5000), (20, 10), (1, 0)])
def test_warm_up_of_a_short_run(steps_per_epoch: int, warm_up: int) -> None:
    assert make_schedule("cosine", 1e-3, steps_per_epoch, 5, None).warm_up == warm_up


def test_the_official_schedule() -> None:
    schedule = make_schedule("official", 1e-4, steps_per_epoch=3, epochs=5, warm_up=None)
    rates = [schedule.rate(step) for step in range(15)]
    assert rates == [1e-4 * (1 + math.cos(math.pi * (step // 3) / 5)) / 2 for step in range(15)]


def test_no_weight_decay_on_biases_norms_and_numbers() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    module[2].requires_grad_(False)
    module.scale = nn.Parameter(torch.tensor(1.0))
    decayed, others = make_optimiser(module, 1e-3, 0.05).param_groups
    assert decayed["weight_decay"] == 0.05 and [p.shape for p in decayed["params"]] == [(2, 3)]
    assert others["weight_decay"] == 0.0 and len(others["params"]) == 4
