"""Checkpoints, each whole or absent: trained weights and optimiser by torch's distributed checkpointing, the random
states of every process, and the progress of the run.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import random
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from dynrefer.workbench.data.atomic import replace_text, sync
from dynrefer.workbench.errors import TrainingError

_PARTIAL = ".partial"
_PROGRESS = "progress.json"
# What torch, pickle and json raise for files that are missing, truncated, empty or full of zeros.
_READ_ERRORS = (OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError, CheckpointException)
_TRAINED_ONLY = StateDictOptions(ignore_frozen_params=True, strict=False)


class Checkpoints:
    """The checkpoints of one run in `folder`; the last `keep` are kept. All processes call every method together."""

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int) -> None:
        self._folder, self._accelerator, self._keep = folder, accelerator, keep

    def latest(self) -> Path | None:
        """The newest complete one, or None. Incomplete ones, left by a killed process, have another name."""
        found = sorted(self._folder.glob("step-*"))
        return found[-1] if found else None

    def save(
        self, step: int, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Mapping[str, Any]
    ) -> None:  # fmt: skip
        """Save the state after `step` optimiser steps; it gets its name once all of it is on disk."""
        partial = self._folder / f"step-{step:08d}{_PARTIAL}"
        partial = partial.with_name("." + partial.name)
        if self._accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._accelerator.wait_for_everyone()
        with _without_warning():
            save(_state(model, optimiser), checkpoint_id=partial, no_dist=self._accelerator.num_processes == 1)
        random_file = partial / f"random-{self._accelerator.process_index}.pt"
        torch.save(_random_state(), random_file)
        sync(random_file)  # torch itself syncs the files above
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            whole = {"step": step, "processes": self._accelerator.num_processes, **progress}
            replace_text(partial / _PROGRESS, json.dumps(whole) + "\n")  # syncs the folder's names too
            partial.replace(self._folder / f"step-{step:08d}")
            sync(self._folder)
            self._prune()
        self._accelerator.wait_for_everyone()

    def _prune(self) -> None:
        for old in sorted(self._folder.glob("step-*"))[: -self._keep]:
            shutil.rmtree(old)
        for partial in self._folder.glob(f".step-*{_PARTIAL}"):
            shutil.rmtree(partial)

    def load(self, path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Restore everything in place and return the progress. Raises `TrainingError` if `path` cannot be read."""
        single = self._accelerator.num_processes == 1
        try:
            progress: dict[str, Any] = json.loads((path / _PROGRESS).read_text(encoding="utf-8"))
            if progress["processes"] != self._accelerator.num_processes:
                raise TrainingError(
                    f"{path} was written by {progress['processes']} processes and this run has "
                    f"{self._accelerator.num_processes}; resume with as many."
                )
            state = _state(model, optimiser)
            with _without_warning():
                load(state, checkpoint_id=path, no_dist=single)
            _restore_random(torch.load(path / f"random-{self._accelerator.process_index}.pt", weights_only=True))
        except _READ_ERRORS as error:
            reason = str(error).strip().split("\n")[0]
            raise TrainingError(
                f"the checkpoint {path} cannot be read ({reason}); remove it to continue from the one before."
            ) from error
        set_model_state_dict(model, state["model"], options=_TRAINED_ONLY)
        set_optimizer_state_dict(model, optimiser, state["optimiser"], options=_TRAINED_ONLY)
        return progress


@contextlib.contextmanager
def _without_warning() -> Iterator[None]:
    """torch warns that a single process saves without `torch.distributed`, although `no_dist` says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def _state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "model": get_model_state_dict(model, options=_TRAINED_ONLY),
        "optimiser": get_optimizer_state_dict(model, optimiser, options=_TRAINED_ONLY),
    }


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name in the network -> whole tensor on the CPU, of the trained ones; empty on all processes but the first."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    whole: dict[str, Any] = get_model_state_dict(model, options=options)
    return {name.removeprefix("network."): value for name, value in whole.items()}


def _random_state() -> dict[str, Any]:
    _, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.array(keys).astype(np.int64)), place, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore_random(state: Mapping[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), place, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
