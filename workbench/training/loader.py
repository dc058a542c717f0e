"""Batches from reading processes to the training loop, with the bad samples counted on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.samples import TrainingBatch, Unreadable

_MOST_WORKERS = 8


def feed(
    dataset: Dataset[TrainingBatch | Unreadable], numbers: range, tally: BadSampleReport, workers: int
) -> Iterator[TrainingBatch]:
    """The batches of these numbers, in order, read by `workers` processes (0: by this one).

    Raises `TooManyBadSamplesError`, or `TrainingError` if one sample after the other cannot be read.
    """
    extra: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
    # A generator of its own: the loader would else draw its seed from the state that decides the dropout.
    own = torch.Generator()
    for batch in DataLoader(Subset(dataset, numbers), batch_size=None, num_workers=workers, generator=own, **extra):
        tally.add(batch.bad)
        tally.check()
        if isinstance(batch, Unreadable):
            raise TrainingError(f"no sample of {tally.source} can be read: {batch.bad[-1].reason}.")
        yield batch


def worker_count(asked: int | None, processes: int) -> int:
    """Reading processes per training process; None: the cores that are left over."""
    return min(_MOST_WORKERS, max(0, (os.cpu_count() or 1) // processes - 1)) if asked is None else asked
