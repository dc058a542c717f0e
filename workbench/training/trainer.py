"""The training loop of `dynrefer train --train FILE`, on one process or many; a resumed run gives the same bits."""

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

from dynrefer.workbench.data.bad_samples import BadSampleReport, save_reports, saving_reports
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.checkpoint import Checkpoints, trained_weights
from dynrefer.workbench.training.distributed import (
    average_scalar_gradients,
    distribute,
    frozen_dtype,
    gradient_sync,
    join_processes,
    share_bad_samples,
)
from dynrefer.workbench.training.export import FinishedRun, export_run
from dynrefer.workbench.training.initial_model import InitialModel, load_initial_model, prepare_parts, train_vision
from dynrefer.workbench.training.loader import load_batches, worker_count
from dynrefer.workbench.training.objective import TERMS, TrainingObjective, mean_tokens
from dynrefer.workbench.training.optimiser import Schedule, clip_gradients, make_optimiser, make_schedule
from dynrefer.workbench.training.run_data import TrainingData, read_training_data
from dynrefer.workbench.training.run_directory import BAD_SAMPLES, MODEL, RunDirectory, session_record
from dynrefer.workbench.training.run_settings import TrainingSettings, check_packages, flag
from dynrefer.workbench.training.samples import TrainingBatch, UnreadableBatch

_VALUES = (*TERMS, "total")


@dataclass(frozen=True)
class TrainingResult:
    """model: the finished directory. losses: the last logged ones of training. reports: of bad samples."""

    model: Path
    losses: dict[str, float]
    reports: tuple[BadSampleReport, ...]


def train_on(settings: TrainingSettings, out: Path) -> TrainingResult | None:
    """Train, and write `out`/model; continues from the last checkpoint in `out` if there is one.

    Returns None on all processes but the first. Raises `ModelError` for whatever the user can correct.
    """
    check_packages(settings)
    accelerator = join_processes(settings)
    initial = load_initial_model(settings.init, settings.vocabulary, settings.preset)
    with saving_reports(out / BAD_SAMPLES) as reports:
        data = read_training_data(settings, initial, accelerator, reports)
        run = _Run(settings, out, accelerator, initial, data)
        try:
            return run.train()
        finally:
            run.directory.close()


class _Run:
    """One run: its parts, and its steps."""

    def __init__(
        self, settings: TrainingSettings, out: Path, accelerator: Accelerator, initial: InitialModel, data: TrainingData
    ) -> None:  # fmt: skip
        self.settings, self.out, self.accelerator, self.initial, self.data = settings, out, accelerator, initial, data
        self.directory = RunDirectory(out, writes=accelerator.is_main_process)
        self.checkpoints = Checkpoints(out / "checkpoints", accelerator, settings.keep)
        self.schedule = self._schedule()
        _seed(settings.seed)  # the same on all processes: new matrices must be the same
        prepare_parts(initial.network, settings, frozen_dtype=frozen_dtype(accelerator))
        objective = TrainingObjective(
            initial.network, initial.texts.tags, tag_gamma=settings.tag_gamma, train_vision=train_vision(settings)
        )
        self.model = distribute(objective, accelerator, fsdp=settings.fsdp)
        self.optimiser = make_optimiser(self.model, settings.learning_rate, settings.weight_decay)
        _seed(settings.seed + accelerator.process_index)  # dropout differs
        self.step = 0
        self.last_losses: dict[str, float] = {}
        self._sums = torch.zeros(len(_VALUES), device=accelerator.device)
        self._summed, self._clock = 0, time.perf_counter()

    def _schedule(self) -> Schedule:
        s = self.settings
        return make_schedule(s.schedule, s.learning_rate, self.data.steps_per_epoch, s.epochs, s.warm_up)

    def train(self) -> TrainingResult | None:
        """Run all steps that are left."""
        self._restore()
        batches = self._batches(self.data.train, self.step * self.settings.accumulate, self._passes(), validation=False)
        self.model.train()
        with self._bar() as bar:
            while self.step < self.schedule.steps:
                self._one_step(batches)
                bar.update()
                self._after_step(bar)
        return self._finish()

    def _restore(self) -> None:
        latest = self.checkpoints.latest()
        if latest is not None:
            self._check_data()
            progress = self.checkpoints.load(latest, self.model, self.optimiser)
            self.step = progress["step"]
            self.last_losses = dict(progress["losses"])
            for report, saved in zip(self.data.reports, progress["bad"], strict=False):
                report.restore(saved)
        facts = session_record(
            self.settings.seed, self.accelerator.num_processes, str(self.accelerator.device), self.data.digests
        )
        self.directory.begin_session(self.settings.as_json(), facts, self.step)

    def _check_data(self) -> None:
        """Refuse to resume with other annotations, another vocabulary or another initial model."""
        before = self.directory.data_digests()
        for name, digest in self.data.digests.items():
            if before.get(name, digest) != digest:
                what = "model" if name == "init" else "file"
                raise TrainingError(
                    f"the {what} behind {flag(name)} has changed since the run in {self.out} began; "
                    "start a new run with another --out."
                )

    def _passes(self) -> int:
        return self.schedule.steps * self.settings.accumulate

    def _batches(
        self, dataset: Dataset[TrainingBatch | UnreadableBatch], first: int, count: int, *, validation: bool
    ) -> Iterator[TrainingBatch]:
        workers = worker_count(self.settings.workers, self.accelerator.num_processes)
        return load_batches(dataset, range(first, count), self.data.reports[int(validation)], workers)

    def _one_step(self, batches: Iterator[TrainingBatch]) -> None:
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        passes = [next(batches) for _ in range(settings.accumulate)]
        tokens = mean_tokens(passes, self.accelerator.device)
        for number, batch in enumerate(passes):
            last = number == settings.accumulate - 1
            with gradient_sync(self.model, self.accelerator, last=last):
                terms = self._terms(batch, tokens)
                self.accelerator.backward(terms["total"] / settings.accumulate)
            self._sums += torch.stack([terms[name].detach().float() for name in _VALUES])
            self._summed += 1
        average_scalar_gradients(self.model, self.accelerator, fsdp=settings.fsdp)
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
        """Log, validate and save a checkpoint, whatever is due. All processes do the same."""
        settings, at_end = self.settings, self.step == self.schedule.steps
        save_now = at_end or self.step % settings.checkpoint_every == 0
        if save_now or self.step % settings.log_every == 0:
            self._log(bar)
        if self.data.val is not None and (at_end or self.step % self._validate_every() == 0):
            self._validate()
        if save_now:
            self._save_checkpoint()

    def _validate_every(self) -> int:
        return self.settings.validate_every or self.data.steps_per_epoch

    def _log(self, bar: tqdm[Any]) -> None:
        means = self._mean_over_processes(self._sums / max(self._summed, 1))
        spent = time.perf_counter() - self._clock
        per_pass = self.settings.batch_size * self.accelerator.num_processes
        speed = self._summed * per_pass / spent
        self._sums.zero_()
        self._summed, self._clock = 0, time.perf_counter()
        self.last_losses = means
        share_bad_samples(self.data.reports)
        rate = self.schedule.rate(self.step - 1)
        self.directory.log(self.step, "train", {**means, "learning_rate": rate, "samples_per_second": speed})
        shown = {name: f"{value:.4g}" for name, value in means.items()}
        bar.set_postfix({**shown, "samples/s": f"{speed:.1f}"}, refresh=False)
        if not all(math.isfinite(value) for value in means.values()):
            raise TrainingError(
                f"the loss is no longer a finite number at step {self.step}; start a new run with a smaller "
                "--learning-rate, or a --clip-norm, and another --out (--resume would most likely give the same)."
            )

    def _mean_over_processes(self, values: Tensor) -> dict[str, float]:
        reduced: Any = self.accelerator.reduce(values, reduction="mean")
        return dict(zip(_VALUES, reduced.tolist(), strict=True))

    @torch.no_grad()
    def _validate(self) -> None:
        """Log the mean losses on samples, views and control words that are the same every time."""
        assert self.data.val is not None
        started = time.perf_counter()
        self.model.eval()
        sums, count = torch.zeros_like(self._sums), 0
        for batch in self._batches(self.data.val, 0, self.data.val_batches, validation=True):
            terms = self._terms(batch, mean_tokens([batch], self.accelerator.device))
            sums += torch.stack([terms[name].float() for name in _VALUES])
            count += 1
        self.model.train()
        self.directory.log(self.step, "val", self._mean_over_processes(sums / count))
        share_bad_samples(self.data.reports)
        self._clock += time.perf_counter() - started  # not part of the training speed

    def _save_checkpoint(self) -> None:
        started = time.perf_counter()
        bad = [report.as_json() for report in self.data.reports]
        self.checkpoints.save(self.step, self.model, self.optimiser, {"bad": bad, "losses": self.last_losses})
        self._clock += time.perf_counter() - started

    def _finish(self) -> TrainingResult | None:
        weights = trained_weights(self.model)
        if not self.accelerator.is_main_process:
            return None
        finished = FinishedRun(
            self.settings, self.step, len(self.data.train_samples), self.accelerator.num_processes, self.last_losses
        )
        model = export_run(self.initial, weights, finished, self.out / MODEL)
        save_reports(self.data.reports, self.out / BAD_SAMPLES)
        return TrainingResult(model, self.last_losses, self.data.reports)

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
