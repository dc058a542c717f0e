"""The steps of a run: heads, then captions; each resumes at its last checkpoint, with the same bits on one machine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.optimiser import Schedule, clip_gradients, make_optimiser

LOG = "log.jsonl"
_WEIGHT_DECAY, _CLIP, _LOG_EVERY = 0.01, 2.0, 20


class Tunes(Protocol):
    """A module that learns from batches."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """The weighted terms, scalars; their sum is the loss."""
        ...


@dataclass(frozen=True)
class Phase:
    """One part of a run. batch: step -> batch, on any device, as a record of tensors."""

    name: str
    batch: Callable[[int], Any]
    steps: int
    learning_rate: float
    checkpoint_every: int


def run_phase(module: Any, phase: Phase, out: Path, device: torch.device, seed: int) -> dict[str, float]:
    """Train `module` in place, from its last checkpoint in `out` on; returns the last losses.

    Raises `TrainingError` for a loss that is no finite number, and for a damaged checkpoint.
    """
    torch.manual_seed(seed)
    schedule = Schedule("cosine", phase.learning_rate, phase.steps, phase.steps, max(1, phase.steps // 10))
    optimiser = make_optimiser(module, phase.learning_rate, _WEIGHT_DECAY)
    path, losses = out / f"{phase.name}.pt", dict[str, float]()
    first = _restore(path, module, optimiser, losses)
    module.train()
    bar = tqdm(
        range(first, phase.steps), desc=phase.name, initial=first, total=phase.steps, unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )  # fmt: skip
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        terms = module.losses(_moved(phase.batch(step), device))
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        clip_gradients(module, _CLIP)
        optimiser.step()
        done = step + 1
        if done % _LOG_EVERY == 0 or done == phase.steps:
            losses = {"total": float(total.detach()), **{name: float(term.detach()) for name, term in terms.items()}}
            _log(out, phase.name, done, losses)
            bar.set_postfix({"loss": f"{losses['total']:.3f}"}, refresh=False)
        if done % phase.checkpoint_every == 0 or done == phase.steps:
            _save(path, module, optimiser, done, losses)
    module.eval()
    return losses


def _moved(batch: Any, device: torch.device) -> Any:
    return type(batch)(**{name: value.to(device) for name, value in vars(batch).items()})


def _log(out: Path, phase: str, step: int, losses: dict[str, float]) -> None:
    rounded = {name: round(value, 4) for name, value in losses.items()}
    with (out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"phase": phase, "step": step, **rounded}) + "\n")
    if not all(map(math.isfinite, losses.values())):
        raise TrainingError(
            f"the loss is no longer a finite number at step {step}; start a new run with a smaller --learning-rate and "
            "another --out."
        )


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def _save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, losses: dict[str, float]) -> None:
    """Whole or not at all."""
    state = {
        "trained": {name: value.detach().cpu() for name, value in _trained(module).items()},
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "step": step,
        "losses": losses,
    }
    with write_atomically(path) as temporary:
        torch.save(state, temporary)


def _restore(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, losses: dict[str, float]) -> int:
    """Fill module, optimiser and losses, and return the number of steps that are done; 0 without a checkpoint."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        with torch.no_grad():
            for name, value in _trained(module).items():
                value.copy_(state["trained"][name])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        losses.update(state["losses"])
        return int(state["step"])
    except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        raise TrainingError(f"the checkpoint {path} cannot be read; remove it to begin this part again.") from error
