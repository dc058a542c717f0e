"""A session of ONNX Runtime for one of the evidence's networks; the first one that is opened imports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ModelNotFoundError, WeightsError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ERRORS_ONLY = 3  # ONNX Runtime's level of logging: its warnings are about graphs, of no use to who runs a service


def open_session(path: Path, threads: int, network: str) -> InferenceSession:
    """path: the .onnx file. threads: of one call, the caller's included. network: how errors name it.

    Raises `ModelNotFoundError` if there is no such file, `WeightsError` if it is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"there is no readable {network} {str(path)!r}.") from error
    # Before the import, which writes an identifier of this machine into the user's cache folder or warns if it cannot.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported here: onnxruntime takes a tenth of a second, which a model without evidence need not spend.
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Waiting threads of ONNX Runtime would otherwise take the cores from torch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base and are not documented
        raise WeightsError(f"the {network} {str(path)!r} cannot be read; is the file complete?") from error


def _saturates() -> bool:
    """Whether this processor's int8 products lose sums beyond 16 bits: those with AVX2 and without VNNI do.

    ONNX Runtime can avoid it, at twice the time, and would do so on any processor: so it is asked to on these only.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: no way to know that is worth its lines
        return False
    return "avx2" in flags and "vnni" not in flags
