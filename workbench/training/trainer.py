"""`dynrefer train --train FILE`: the loop. Resumable to the bit, on one process or many."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from dynrefer.workbench.data.bad_samples import BadSampleReport, named_in, save, share
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.checkpoint import Checkpoints, trained_weights
from dynrefer.workbench.training.distributed import (
    average_single_numbers,
    begin,
    clip_gradients,
    frozen_dtype,
    sharing_gradients,
    spread,
)
from dynrefer.workbench.training.export import Finished, export_run
from dynrefer.workbench.training.initial_model import InitialModel, load_start, prepare_parts, train_vision
from dynrefer.workbench.training.loader import feed, worker_count
from dynrefer.workbench.training.objective import TERMS, TrainingObjective, mean_tokens
from dynrefer.workbench.training.run_data import TrainingData, read_data
from dynrefer.workbench.training.run_directory import BAD_SAMPLES, MODEL, RunDirectory, session_facts
from dynrefer.workbench.training.run_settings import TrainingSettings, check_packages, flag
from dynrefer.workbench.training.samples import TrainingBatch, Unreadable
from dynrefer.workbench.training.schedule import Schedule, make_optimiser, make_schedule

_VALUES = (*TERMS, "total")


@dataclass(frozen=True)
class Result:
    """model: the finished directory. losses: the last of training. tallies: of bad samples."""

    model: Path
    losses: dict[str, float]
    tallies: tuple[BadSampleReport, ...]


def train_on(settings: TrainingSettings, out: Path) -> Result | None:
    """Train, and write `out`/model; goes on from the last checkpoint in `out` if there is one.

    Returns None on all processes but the first. Raises `ModelError` for whatever the user can mend.
    """
    check_packages(settings)
    accelerator = begin(settings)
    start = load_start(settings.init, settings.vocabulary, settings.preset)
    with named_in(out / BAD_SAMPLES) as tallies:
        data = read_data(settings, start, accelerator, tallies)
        run = _Run(settings, out, accelerator, start, data)
        try:
            return run.train()
        finally:
            run.directory.close()


class _Run:
    """The parts of one run, and its steps."""

    def __init__(
        self, settings: TrainingSettings, out: Path, accelerator: Accelerator, start: InitialModel, data: TrainingData
    ) -> None:  # fmt: skip
        self.settings, self.out, self.accelerator, self.start, self.data = settings, out, accelerator, start, data
        self.directory = RunDirectory(out, writes=accelerator.is_main_process)
        self.checkpoints = Checkpoints(out / "checkpoints", accelerator, settings.keep)
        self.schedule = self._schedule()
        _seed(settings.seed)  # the same on all processes: fresh matrices must be the same
        prepare_parts(start.network, settings, frozen_dtype=frozen_dtype(accelerator))
        objective = TrainingObjective(
            start.network, start.texts.tags, tag_gamma=settings.tag_gamma, train_vision=train_vision(settings)
        )
        self.model = spread(objective, accelerator, fsdp=settings.fsdp)
        self.optimiser = make_optimiser(self.model, settings.learning_rate, settings.weight_decay)
        _seed(settings.seed + accelerator.process_index)  # dropout differs
        self.step = 0
        self.last: dict[str, float] = {}
        self._sums = torch.zeros(len(_VALUES), device=accelerator.device)
        self._summed, self._clock = 0, time.perf_counter()

    def _schedule(self) -> Schedule:
        s = self.settings
        return make_schedule(s.schedule, s.learning_rate, self.data.steps_per_epoch, s.epochs, s.warm_up)

    def train(self) -> Result | None:
        """From wherever the run was to its end."""
        self._begin()
        batches = self._feed(self.data.train, self.step * self.settings.accumulate, self._passes(), validation=False)
        self.model.train()
        with self._bar() as bar:
            while self.step < self.schedule.steps:
                self._one_step(batches)
                bar.update()
                self._after_step(bar)
        return self._finish()

    def _begin(self) -> None:
        latest = self.checkpoints.latest()
        if latest is not None:
            self._check_data()
            progress = self.checkpoints.load(latest, self.model, self.optimiser)
            self.step = progress["step"]
            self.last = dict(progress["losses"])
            for tally, kept in zip(self.data.tallies, progress["bad"], strict=False):
                tally.restore(kept)
        facts = session_facts(
            self.settings.seed, self.accelerator.num_processes, str(self.accelerator.device), self.data.digests
        )
        self.directory.begin(self.settings.as_json(), facts, self.step)

    def _check_data(self) -> None:
        """A run goes on with the annotations, the words and the start that it began with."""
        before = self.directory.data_digests()
        for name, digest in self.data.digests.items():
            if before.get(name, digest) != digest:
                what = "model" if name == "init" else "file"
                raise TrainingError(
                    f"the {what} behind {flag(name)} has changed since the run in {self.out} began; "
                    "start anew with another --out."
                )

    def _passes(self) -> int:
        return self.schedule.steps * self.settings.accumulate

    def _feed(
        self, dataset: Dataset[TrainingBatch | Unreadable], first: int, count: int, *, validation: bool
    ) -> Iterator[TrainingBatch]:
        workers = worker_count(self.settings.workers, self.accelerator.num_processes)
        return feed(dataset, range(first, count), self.data.tallies[int(validation)], workers)

    def _one_step(self, batches: Iterator[TrainingBatch]) -> None:
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        passes = [next(batches) for _ in range(settings.accumulate)]
        tokens = mean_tokens(passes, self.accelerator.device)
        for number, batch in enumerate(passes):
            last = number == settings.accumulate - 1
            with sharing_gradients(self.model, self.accelerator, last=last):
                terms = self._terms(batch, tokens)
                self.accelerator.backward(terms["total"] / settings.accumulate)
            self._sums += torch.stack([terms[name].detach().float() for name in _VALUES])
            self._summed += 1
        average_single_numbers(self.model, self.accelerator, fsdp=settings.fsdp)
        if settings.clip_norm:
            clip_gradients(self.model, settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1

    def _terms(self, batch: TrainingBatch, tokens: Tensor) -> dict[str, Tensor]:
        with self.accelerator.autocast():
            terms: dict[str, Tensor] = self.model(batch.to(self.accelerator.device), tokens)
        return terms

    def _after_step(self, bar: tqdm[Any]) -> None:
        """Log, validate, keep a checkpoint: whatever is due. All processes do the same."""
        settings, at_end = self.settings, self.step == self.schedule.steps
        to_keep = at_end or self.step % settings.checkpoint_every == 0
        if to_keep or self.step % settings.log_every == 0:
            self._log(bar)
        if self.data.val is not None and (at_end or self.step % self._validate_every() == 0):
            self._validate()
        if to_keep:
            self._keep()

    def _validate_every(self) -> int:
        return self.settings.validate_every or self.data.steps_per_epoch

    def _log(self, bar: tqdm[Any]) -> None:
        means = self._mean_over_processes(self._sums / max(self._summed, 1))
        spent = time.perf_counter() - self._clock
        joined = self.settings.batch_size * self.accelerator.num_processes
        speed = self._summed * joined / spent
        self._sums.zero_()
        self._summed, self._clock = 0, time.perf_counter()
        self.last = means
        share(self.data.tallies)
        rate = self.schedule.rate(self.step - 1)
        self.directory.log(self.step, "train", {**means, "learning_rate": rate, "samples_per_second": speed})
        shown = {name: f"{value:.4g}" for name, value in means.items()}
        bar.set_postfix({**shown, "samples/s": f"{speed:.1f}"}, refresh=False)
        if not all(math.isfinite(value) for value in means.values()):
            raise TrainingError(
                f"the loss is no longer a finite number at step {self.step}; start anew with a smaller "
                "--learning-rate, or a --clip-norm, and another --out (--resume would most likely come to the same)."
            )

    def _mean_over_processes(self, values: Tensor) -> dict[str, float]:
        reduced: Any = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(_VALUES, reduced.tolist(), strict=True))

    @torch.no_grad()
    def _validate(self) -> None:
        """Mean losses on samples, views and control words that are the same every time."""
        assert self.data.val is not None
        started = time.perf_counter()
        self.model.eval()
        sums, count = torch.zeros_like(self._sums), 0
        for batch in self._feed(self.data.val, 0, self.data.val_batches, validation=True):
            terms = self._terms(batch, mean_tokens([batch], self.accelerator.device))
            sums += torch.stack([terms[name].float() for name in _VALUES])
            count += 1
        self.model.train()
        self.directory.log(self.step, "val", self._mean_over_processes(sums / count))
        share(self.data.tallies)
        self._clock += time.perf_counter() - started  # the speed is that of training

    def _keep(self) -> None:
        started = time.perf_counter()
        bad = [tally.as_json() for tally in self.data.tallies]
        self.checkpoints.save(self.step, self.model, self.optimiser, {"bad": bad, "losses": self.last})
        self._clock += time.perf_counter() - started

    def _finish(self) -> Result | None:
        weights = trained_weights(self.model)
        if not self.accelerator.is_main_process:
            return None
        finished = Finished(
            self.settings, self.step, len(self.data.train_samples), self.accelerator.num_processes, self.last
        )
        model = export_run(self.start, weights, finished, self.out / MODEL)
        save(self.data.tallies, self.out / BAD_SAMPLES)
        return Result(model, self.last, self.data.tallies)

    def _bar(self) -> tqdm[Any]:
        return tqdm(
            total=self.schedule.steps,
            initial=self.step,
            unit="step",
            desc="training",
            disable=not self.accelerator.is_main_process,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
