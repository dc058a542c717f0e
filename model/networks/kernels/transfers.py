"""Copies from the device that do not wait for it."""

import torch
from torch import Tensor


def to_host(values: Tensor) -> Tensor:
    """The values in the memory of the CPU. From a GPU they are there only once the current stream has come so far."""
    if values.device.type != "cuda":
        return values.cpu()
    # Page-locked memory: into any other a copy from a GPU waits for the device.
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
