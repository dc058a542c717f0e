"""Kernels of our own for NVIDIA's GPUs, compiled from source when a model is loaded: no compiler need be installed.

torch brings NVIDIA's run-time compiler along. Its library `caffe2_nvrtc` is linked with it and with the driver, so the
functions of both are found there; torch's own way to them is private and wants the headers of a whole toolkit.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_LIBRARY = "libcaffe2_nvrtc.so"
_COMPILER = "CreateProgram CompileProgram GetCUBINSize GetCUBIN GetProgramLogSize GetProgramLog DestroyProgram"
_DRIVER = "ModuleLoadData ModuleGetFunction LaunchKernel"
_FUNCTIONS = (*(f"nvrtc{each}" for each in _COMPILER.split()), *(f"cu{each}" for each in _DRIVER.split()))


class KernelError(RuntimeError):
    """A kernel cannot be had, or does not take what it is given."""


def library() -> Any:
    """The run-time compiler and the driver. Raises `KernelError` where there is none."""
    try:
        found = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / _LIBRARY))
        for name in _FUNCTIONS:
            getattr(found, name)
    except (OSError, AttributeError) as error:
        raise KernelError(f"there is no run-time compiler: {error}") from error
    return found


class Kernel:
    """A function `name` of CUDA C, made for the current GPU. Raises `KernelError` where it cannot be made.

    source: without headers. defined: preprocessor's names and numbers. lib: `library()`.
    """

    def __init__(self, source: str, name: str, defined: dict[str, int], lib: Any) -> None:
        self._lib, self._device = lib, torch.cuda.current_device()
        major, minor = torch.cuda.get_device_capability()
        options = [f"--gpu-architecture=sm_{major}{minor}", *(f"-D{key}={value}" for key, value in defined.items())]
        image = _compiled(lib, source, options)
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        torch.cuda.current_stream().synchronize()  # the driver needs torch's context, which this makes current
        _done(lib.cuModuleLoadData(ctypes.byref(self._module), image), "the driver does not take the kernel")
        found = lib.cuModuleGetFunction(ctypes.byref(self._function), self._module, name.encode())
        _done(found, f"there is no kernel {name}")

    def __call__(self, blocks: int, threads: int, arguments: Sequence[Tensor | int]) -> None:
        """Launch it on the current stream: tensors as pointers, numbers as int. Raises `KernelError`.

        The current GPU must still be that of the tensors, or the launch would fault and spoil the process's device.
        """
        if torch.cuda.current_device() != self._device:
            raise KernelError(f"the kernel was made for GPU {self._device}, which is not the current one.")
        values = [_argument(each) for each in arguments]
        places = (ctypes.c_void_p * len(values))(*(ctypes.addressof(each) for each in values))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        sizes = (blocks, 1, 1, threads, 1, 1)
        _done(self._lib.cuLaunchKernel(self._function, *sizes, 0, stream, places, None), "the kernel is not launched")


def _argument(value: Tensor | int) -> ctypes.c_void_p | ctypes.c_int:
    return ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else ctypes.c_int(value)


def _compiled(lib: Any, source: str, options: Sequence[str]) -> ctypes.Array[ctypes.c_char]:
    """The machine code of a source."""
    program = ctypes.c_void_p()
    _done(lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None), "no program")
    try:
        given = (ctypes.c_char_p * len(options))(*(each.encode() for each in options))
        if lib.nvrtcCompileProgram(program, len(options), given):
            raise KernelError(f"the kernel does not compile: {_log(lib, program)}")
        size = ctypes.c_size_t()
        _done(lib.nvrtcGetCUBINSize(program, ctypes.byref(size)), "no machine code")
        image = ctypes.create_string_buffer(size.value)
        _done(lib.nvrtcGetCUBIN(program, image), "no machine code")
        return image
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def _log(lib: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(max(1, size.value))
    lib.nvrtcGetProgramLog(program, text)
    return text.value.decode(errors="replace").strip()


def _done(result: int, otherwise: str) -> None:
    """Both libraries return 0 where all went well."""
    if result:
        raise KernelError(f"{otherwise} (error {result}).")
