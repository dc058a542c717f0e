"""Arrays on their way to a device: stacked once, as numpy stacks them, whatever memory they lie in."""

import warnings

import numpy as np
import pytest
import torch

from dynrefer.model.networks.kernels.transfers import stacked, to_device, upload


def arrays(shape: tuple[int, ...], dtype: str, count: int) -> list[np.ndarray]:
    """As they come from worker processes: not to be written to, and one of them not contiguous."""
    values = (np.arange(count * max(1, int(np.prod(shape)))) % 251).astype(dtype).reshape(count, *shape)
    found = [np.array(each, order="F") for each in values]
    for each in found:
        each.setflags(write=False)
    return found


@pytest.mark.parametrize("shape, dtype, count", [((3, 6, 6), "uint8", 4), ((3, 4), "float32", 1), ((), "int64", 3)])
def test_arrays_are_stacked(shape: tuple[int, ...], dtype: str, count: int) -> None:
    given = arrays(shape, dtype, count)
    expected = torch.from_numpy(np.stack(given))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (stacked(given, pinned=False), to_device(given, torch.device("cpu"))):
            assert torch.equal(found, expected) and found.dtype == expected.dtype


def test_for_a_gpu_they_are_stacked_in_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own `empty` refuses page-locked memory where there is no GPU."""
    asked, empty = list[bool](), torch.empty

    def watched(shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", watched)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: (self, device, non_blocking))
    given, device = arrays((3, 2, 2), "uint8", 2), torch.device("cuda", 0)
    staged, on, non_blocking = to_device(given, device)  # type: ignore[misc]
    assert asked == [True] and on == device and non_blocking is True
    assert np.array_equal(staged.numpy(), np.stack(given))


def test_a_tensor_goes_to_a_gpu_by_way_of_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    given, done = torch.tensor([3, 1]), list[object]()
    assert torch.equal(upload(given, torch.device("cpu")), given)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (done.append("pinned"), self)[1])
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: done.append((device, non_blocking)))
    upload(given, torch.device("cuda", 0))
    assert done == ["pinned", (torch.device("cuda", 0), True)]
