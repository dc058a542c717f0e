"""Which samples make which batch: each epoch once, over all processes; validation always the same."""

from __future__ import annotations

import pytest
import torch

from dynrefer.workbench.training.loader import BatchPlan, EpochBatches, FixedBatches
from dynrefer.workbench.training.samples import RegionSamples
from tests.workbench.training.conftest import whole


def test_processes_share_each_epoch_without_overlap(samples: RegionSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[int, int], list[int]] = {}

    def batch(indices: list[int], epoch: int) -> None:
        seen.setdefault((epoch, len(seen) % 2), []).extend(indices)

    monkeypatch.setattr(samples, "batch", batch)
    per_epoch = len(samples) // 6
    for number in range(2 * per_epoch):
        for rank in range(2):
            EpochBatches(samples, BatchPlan(5, 3, rank, 2), per_epoch)[number]
    orders = [[i for (epoch, _), indices in seen.items() if epoch == e for i in indices] for e in (0, 1)]
    assert all(len(set(order)) == len(order) == 6 * per_epoch for order in orders)
    assert orders[0] != orders[1]


def test_validation_is_the_same_every_time(samples: RegionSamples) -> None:
    batches = [whole(FixedBatches(samples, BatchPlan(seed, 3, 0, 1))[1]) for seed in (0, 9)]
    assert torch.equal(batches[0].images, batches[1].images)
    assert torch.equal(batches[0].control_ids, batches[1].control_ids)
