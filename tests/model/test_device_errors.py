"""What torch says about its device, in our errors."""

import pytest
import torch

from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, ModelError


def raising(error: Exception) -> object:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), DeviceMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), DeviceMemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."), DeviceMemoryError),
        (OSError(12, "Cannot allocate memory"), DeviceMemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), DeviceMemoryError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLostError),
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceLostError),
    ],
)
def test_trouble_of_the_device(error: Exception, kind: type[ModelError]) -> None:
    with pytest.raises(kind) as raised:
        translate_device_errors(raising(error))  # type: ignore[arg-type]
    assert raised.value.__context__ is None  # it would hold the batch's tensors


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("no memory"), FileNotFoundError("x")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        translate_device_errors(raising(error))  # type: ignore[arg-type]
    assert raised.value is error


def test_the_real_allocator_is_understood() -> None:
    with pytest.raises(DeviceMemoryError):
        translate_device_errors(lambda: torch.empty(1 << 60, dtype=torch.uint8))


def test_results_are_passed_through() -> None:
    assert translate_device_errors(lambda: 3) == 3
