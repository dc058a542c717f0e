"""Device failures as errors of ours: torch reports the same failure in several ways."""

import re
from collections.abc import Callable
from typing import TypeVar

import torch

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, ModelError

Result = TypeVar("Result")

# torch has a class for a full GPU only; the CPU's allocator and system calls report it in their message.
_NO_MEMORY = re.compile(r"can(no|')t allocate memory|out of memory|ALLOC_FAILED|bad_alloc", re.IGNORECASE)
_LOST = re.compile(r"CUDA error|device-side assert|CUBLAS_STATUS|CUDNN_STATUS", re.IGNORECASE)


def translate_device_errors(work: Callable[[], Result]) -> Result:
    """The result of `work`. Raises `DeviceMemoryError` or `DeviceLostError` where torch reports that its device failed;
    every other error passes unchanged."""
    try:
        return work()
    except (MemoryError, RuntimeError, OSError) as error:
        found = _device_error(error)
        if found is None:
            raise
    # After the handler, not inside: there the error keeps its frames alive, and with them the tensors to be freed.
    if isinstance(found, DeviceMemoryError) and torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise found


def _device_error(error: Exception) -> ModelError | None:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)):
        return DeviceMemoryError("the device is out of memory; choose a smaller batch, model or dtype.")
    if isinstance(error, torch.AcceleratorError) or _LOST.search(str(error)):
        return DeviceLostError("the device no longer responds.")
    return None
