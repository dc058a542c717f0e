"""Two passes of four regions make the step that one pass of eight makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.workbench.training import objective
from dynrefer.workbench.training.objective import mean_tokens
from dynrefer.workbench.training.trainer import train_on
from tests.workbench.training.conftest import tiny_settings

pytestmark = pytest.mark.training

Gradients = Callable[..., list[Tensor]]


class Seen(Exception):
    """Ends a run before its first step."""


@pytest.fixture
def first_gradients(drawn: Path, still_model: Path, tmp_path: Path) -> Gradients:
    """Settings -> what the optimiser would have applied in the first step of such a run."""

    def find(**changes: Any) -> list[Tensor]:
        found: list[Tensor] = []

        def look(optimiser: Optimizer, *_: object) -> None:
            found.extend(p.grad.clone() for g in optimiser.param_groups for p in g["params"] if p.grad is not None)
            raise Seen

        hook = register_optimizer_step_pre_hook(look)
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            with pytest.raises(Seen):
                train_on(tiny_settings(drawn, still_model, **changes), tmp_path / str(changes["accumulate"]))
        finally:
            hook.remove()
        return found

    return find


def apart(ones: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference, as a proportion of the largest gradient."""
    assert len(ones) == len(others)
    largest = max(float(each.abs().max()) for each in ones)
    return max(float((one - other).abs().max()) for one, other in zip(ones, others, strict=True)) / largest


@pytest.mark.parametrize("only", ["LANGUAGE", "TAG", "REGION_TEXT"])
def test_accumulated_passes_are_one_large_pass(
    only: str, first_gradients: Gradients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the contrastive loss, which compares the regions of one pass."""
    monkeypatch.setattr(
        objective,
        "weighted_total",
        lambda terms: terms[{"LANGUAGE": "language", "TAG": "tags", "REGION_TEXT": "region_text"}[only]],
    )
    large = first_gradients(batch_size=8, accumulate=1)
    small = first_gradients(batch_size=4, accumulate=2)
    assert (apart(large, small) < 1e-5) == (only != "REGION_TEXT")


def test_tokens_are_counted_over_all_passes() -> None:
    class Labelled:
        def __init__(self, *counts: int) -> None:
            self.labels = torch.full((len(counts), 9), IGNORED)
            for row, count in enumerate(counts):
                self.labels[row, :count] = 1

    passes: Any = [Labelled(3, 9), Labelled(1, 1, 4)]
    assert mean_tokens(passes, torch.device("cpu")).item() == 9.0
