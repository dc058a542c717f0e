"""Copies from and to the device that do not wait for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(arrays: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """Arrays of one shape and dtype, at least one, stacked, on the device.

    They are stacked in page-locked memory, from which a GPU copies by itself. torch reuses such memory, and not before
    the stream that copied from it has come so far.
    """
    if device.type != "cuda":
        return torch.from_numpy(np.stack(arrays)).to(device)
    return stacked(arrays, pinned=True).to(device, non_blocking=True)


def upload(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, by way of page-locked memory: from any other, torch waits until all that the
    current stream was given is done."""
    pinned = values.pin_memory() if device.type == "cuda" else values
    return pinned.to(device, non_blocking=True)


def stacked(arrays: Sequence[NDArray[Any]], *, pinned: bool) -> Tensor:
    """Arrays in new memory of the host; pinned: page-locked."""
    dtype = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
    room = torch.empty((len(arrays), *arrays[0].shape), dtype=dtype, pin_memory=pinned)
    np.stack(arrays, out=room.numpy())
    return room


def to_host(values: Tensor) -> Tensor:
    """The values in the memory of the CPU. From a GPU they are there only once the current stream has come so far."""
    if values.device.type != "cuda":
        return values.cpu()
    # Page-locked memory: into any other a copy from a GPU waits for the device.
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
