"""Which samples make which batch, and the processes that read batches ahead of the training loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Subset

from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.samples import RegionSamples, TrainingBatch, UnreadableBatch

_MAX_WORKERS = 8


@dataclass(frozen=True)
class BatchPlan:
    """How the samples are divided. batch_size: per process. rank, world: of this process; number of processes."""

    seed: int
    batch_size: int
    rank: int
    world: int

    def indices(self, order: NDArray[np.int64], number: int) -> list[int]:
        """The samples of this process in global batch `number` of an epoch in that order."""
        first = (number * self.world + self.rank) * self.batch_size
        indices: list[int] = order[first : first + self.batch_size].tolist()
        return indices


class EpochBatches(Dataset[TrainingBatch | UnreadableBatch]):
    """Item m: this process's part of the m-th global batch, counted over all epochs.

    Each epoch has its own order. What does not fill a whole optimiser step at the end of an epoch is left out; which
    samples those are differs from epoch to epoch.
    """

    def __init__(self, samples: RegionSamples, plan: BatchPlan, per_epoch: int) -> None:
        self._samples, self._plan, self._per_epoch = samples, plan, per_epoch

    def __getitem__(self, number: int) -> TrainingBatch | UnreadableBatch:
        epoch, place = divmod(number, self._per_epoch)
        order = _order(self._plan.seed, epoch, len(self._samples))
        return self._samples.batch(self._plan.indices(order, place), epoch)


class FixedBatches(Dataset[TrainingBatch | UnreadableBatch]):
    """Item m: this process's part of the m-th global batch of validation: the same samples and views every time."""

    def __init__(self, samples: RegionSamples, plan: BatchPlan) -> None:
        self._samples, self._plan = samples, plan

    def __getitem__(self, number: int) -> TrainingBatch | UnreadableBatch:
        order = _order(0, 0, len(self._samples))
        return self._samples.batch(self._plan.indices(order, number), -1)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def load_batches(
    dataset: Dataset[TrainingBatch | UnreadableBatch], numbers: range, report: BadSampleReport, workers: int
) -> Iterator[TrainingBatch]:
    """The batches of these numbers, in order, read by `workers` processes (0: by this one).

    Bad samples are added to `report`. Raises `TooManyBadSamplesError`, or `TrainingError` if many samples in a row
    cannot be read.
    """
    extra: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
    # Its own generator: otherwise the loader draws its seed from the random state that decides the dropout.
    generator = torch.Generator()
    subset = Subset(dataset, numbers)
    for batch in DataLoader(subset, batch_size=None, num_workers=workers, generator=generator, **extra):
        report.add(batch.bad)
        report.stored.update(batch.stored)
        report.check()
        if isinstance(batch, UnreadableBatch):
            raise TrainingError(f"no sample of {report.source} can be read: {batch.bad[-1].reason}.")
        yield batch


def worker_count(requested: int | None, processes: int) -> int:
    """Reading processes per training process; None: the cores that are left over, at most 8."""
    if requested is not None:
        return requested
    return min(_MAX_WORKERS, max(0, (os.cpu_count() or 1) // processes - 1))
