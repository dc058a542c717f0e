"""The memory of a GPU: what is free, and what work takes of it."""

from collections.abc import Callable
from typing import Protocol

import torch


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
