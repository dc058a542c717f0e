"""A session of ONNX Runtime for one of the evidence's networks; the first one that is opened imports it."""

from __future__ import annotations

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
    # Imported here: onnxruntime takes a tenth of a second, which a model without evidence need not spend.
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # has an effect on Windows alone, where they are on by default
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Waiting threads of ONNX Runtime would otherwise take the cores from torch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # No "session.x64quantprecision": it costs 2.7 times the time on processors that sum exactly anyway. The weights
    # have seven bits instead, with which no processor's sums saturate.
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base and are not documented
        raise WeightsError(f"the {network} {str(path)!r} cannot be read; is the file complete?") from error
