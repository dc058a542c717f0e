"""A session of ONNX Runtime for one of the evidence's networks; the first one that is opened imports it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import WeightsError
from dynrefer.model.model_files import read_bytes

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_FATAL_ONLY = 4  # ONNX Runtime's level of logging: what it would write of an error is in the exception too
_MAX_BYTES = 256_000_000  # of a file, which is read into memory


def open_session(path: Path, threads: int, network: str) -> InferenceSession:
    """path: the .onnx file. threads: of one call, the caller's included. network: how errors name it.

    Raises `ModelNotFoundError` if there is no such file, `WeightsError` if it is damaged.
    """
    content = read_bytes(path, network, _MAX_BYTES, WeightsError)
    # Before the import, which writes an identifier of this machine into the user's cache folder or warns if it cannot.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported here: onnxruntime takes a tenth of a second, which a model without evidence need not spend.
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Waiting threads of ONNX Runtime would otherwise take the cores from torch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        # Without a fallback, for which there is no other provider, and of which it would print to standard output.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its errors have no common base and are not documented
        raise WeightsError(f"the {network} {str(path)!r} cannot be read; is the file complete?") from error


def first_run(
    session: InferenceSession, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, Sequence[int]], path: Path
) -> dict[str, NDArray[np.float32]]:
    """One run on an input that matters to nothing, which also allocates what later runs use.

    inputs: name -> array. outputs: name -> the shape that is expected. Returns the outputs by name.
    Raises `WeightsError` unless the network computes finite float32 numbers of these shapes.
    """
    try:
        found = session.run(list(outputs), dict(inputs))
    except Exception as error:  # as above
        raise WeightsError(f"{str(path)!r} cannot be computed with; is the file complete?") from error
    for (name, shape), value in zip(outputs.items(), found, strict=True):
        if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.shape != tuple(shape):
            raise WeightsError(f"the output {name!r} of {str(path)!r} is not of float32 with the shape {list(shape)}.")
        if not np.isfinite(value).all():
            raise WeightsError(f"the output {name!r} of {str(path)!r} holds NaN or infinity: its weights are damaged.")
    return dict(zip(outputs, found, strict=True))


def _saturates() -> bool:
    """Whether this processor's int8 products lose sums beyond 16 bits: those with AVX2 and without VNNI do.

    ONNX Runtime can avoid it, at twice the time, and would do so on any processor: so it is asked to on these only.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: no way to know that is worth its lines
        return False
    return "avx2" in flags and "vnni" not in flags
