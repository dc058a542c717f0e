"""Kernels compiled at run time, with a library that notes what it is asked for."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dynrefer.model.networks.kernels import nvrtc
from dynrefer.model.networks.kernels.nvrtc import Kernel, KernelError, library

ADDRESS = 0x1234_5678_9ABC
LOG = b"kernel.cu(1): error"


class FakeLibrary:
    """Every function succeeds but those in `failing`."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.options, self.launched = failing, list[bytes](), list[Any]()
        self.destroyed = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self._call(name, given)

    def _call(self, name: str, given: tuple[Any, ...]) -> int:
        if name == "nvrtcCompileProgram":
            self.options = list(given[2])
        if name in ("nvrtcGetCUBINSize", "nvrtcGetProgramLogSize"):
            given[1]._obj.value = 32
        if name == "nvrtcGetProgramLog":
            given[1].value = LOG
        if name == "nvrtcDestroyProgram":
            self.destroyed += 1
        if name == "cuLaunchKernel":
            sizes, places = given[1:8], given[9]
            number = ctypes.cast(places[0], ctypes.POINTER(ctypes.c_int))[0]
            pointer = ctypes.cast(places[1], ctypes.POINTER(ctypes.c_void_p))[0]
            self.launched = [*sizes, given[8].value, number, pointer]
        return 5 if name == self.failing else 0


@pytest.fixture(autouse=True)
def _a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(cuda_stream=77, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def test_a_kernel_is_compiled_for_its_gpu_and_launched_on_the_current_stream() -> None:
    lib, rows = FakeLibrary(), torch.zeros(4)
    kernel = Kernel("source", "name", {"ROUNDS": 4}, lib)
    assert lib.options == [b"--gpu-architecture=sm_90", b"-DROUNDS=4"] and lib.destroyed == 1
    kernel(3, 128, (7, rows))
    assert lib.launched == [3, 1, 1, 128, 1, 1, 0, 77, 7, rows.data_ptr()]


def test_a_kernel_of_another_gpu_is_not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    lib = FakeLibrary()
    kernel = Kernel("source", "name", {}, lib)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.raises(KernelError, match="GPU 1"):
        kernel(1, 32, (1, torch.zeros(1)))
    assert not lib.launched


@pytest.mark.parametrize("function", ["nvrtcCreateProgram", "nvrtcGetCUBIN", "cuModuleLoadData", "cuModuleGetFunction"])
def test_what_fails_is_an_error(function: str) -> None:
    with pytest.raises(KernelError, match="error 5"):
        Kernel("source", "name", {}, FakeLibrary(function))


def test_what_does_not_compile_says_why() -> None:
    lib = FakeLibrary("nvrtcCompileProgram")
    with pytest.raises(KernelError, match=LOG.decode().replace("(", r"\(").replace(")", r"\)")):
        Kernel("source", "name", {}, lib)
    assert lib.destroyed == 1


def test_a_launch_that_fails_is_an_error() -> None:
    kernel = Kernel("source", "name", {}, FakeLibrary("cuLaunchKernel"))
    with pytest.raises(KernelError, match="not launched"):
        kernel(1, 32, (1, torch.zeros(1)))


@pytest.mark.parametrize("found", [None, object()], ids=["no file", "another version"])
def test_without_the_library_there_are_no_kernels(found: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str) -> object:
        if found is None:
            raise OSError("no such file")
        return found

    monkeypatch.setattr(nvrtc.ctypes, "CDLL", load)
    with pytest.raises(KernelError, match="no run-time compiler"):
        library()
