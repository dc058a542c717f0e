"""How large a batch fits a GPU: by what one batch takes of the memory that the loaded model leaves."""

from collections.abc import Callable
from typing import Protocol

import torch

from dynrefer.model.protocol import BatchLimits

MOST_REGIONS = 64  # beyond it throughput on an H100 does not grow: the products are large enough
SHARE = 0.6  # of the free memory; the rest is for fragments, other sizes of images, and what else runs on the device


class DeviceMemory(Protocol):
    """What is known of a device's memory."""

    def free(self) -> int:
        """Bytes that this process could still get."""

    def taken_by(self, work: Callable[[], object]) -> int:
        """The most bytes that the work held at a time, besides what was held before it."""


class CudaMemory:
    """Of a GPU, as torch's allocator sees it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int:
        """See `DeviceMemory`."""
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free: int = torch.cuda.mem_get_info(self._device)[0]
        return free + kept

    def taken_by(self, work: Callable[[], object]) -> int:
        """See `DeviceMemory`."""
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        work()
        return torch.cuda.max_memory_allocated(self._device) - before


def measured_limits(memory: DeviceMemory, work: Callable[[], object], regions: int, num_views: int) -> BatchLimits:
    """Limits from a batch of so many regions, `work`, each with so many views.

    A power of two, since batches of that size are split in halves where they do not fit after all.
    """
    each = max(1, memory.taken_by(work) // regions)
    most = max(1, min(MOST_REGIONS, int(SHARE * memory.free()) // each))
    fitting = 1 << (most.bit_length() - 1)
    return BatchLimits(fitting, fitting * num_views)
