"""The files of a model directory, read so that whatever is wrong with one ends in one sentence that names it.

Parsers of a format are called here and nowhere else, so that their errors, which have no common base, become ours where
they arise. What a file declares (its size, shapes, types) is checked before memory is taken for it. No torch.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dynrefer.model.errors import ConfigError, ModelNotFoundError, WeightsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Of one JSON file, in bytes. The largest of official models, a tokenizer's, has 17 MB.
MAX_JSON_BYTES = 64_000_000

# safetensors' names of the types that a weight may have on disk.
FLOATS = ("F16", "BF16", "F32", "F64")
INTEGERS = ("I32", "I64")  # of what only counts


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What a file's header says of a tensor. dtype: safetensors' name, such as "F16"."""

    dtype: str
    shape: tuple[int, ...]


def check_file(path: Path, what: str) -> int:
    """The size of a regular file in bytes; `what` says in errors what it is.

    Raises `ModelNotFoundError` if it is missing, no regular file, or may not be read. Opening a device or a pipe in its
    place could take all memory or wait for ever.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(f"the {what} {str(path)!r} does not exist.") from error
    except OSError as error:
        raise ModelNotFoundError(f"the {what} {str(path)!r} cannot be read: {_reason(error)}.") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise ModelNotFoundError(f"the {what} {str(path)!r} is {kind}; it must be a file.")
    if not os.access(path, os.R_OK):
        raise ModelNotFoundError(
            f"{str(path)!r} may not be read by user {os.getuid()}: change its owner or its permissions."
        )
    return found.st_size


def read_bytes(path: Path, what: str, limit: int, kind: type[ConfigError] | type[WeightsError]) -> bytes:
    """The content of a file of 1 to `limit` bytes; `kind` is raised for any other size. See `check_file`."""
    size = check_file(path, what)
    if size == 0:
        raise kind(f"the {what} {str(path)!r} is empty.")
    if size > limit:
        raise kind(f"the {what} {str(path)!r} has {size:,} bytes; at most {limit:,} are read.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"the {what} {str(path)!r} cannot be read: {_reason(error)}.") from error


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds an object, whose numbers are finite and whose keys are distinct.

    Raises `ConfigError` for any other content, and what `check_file` raises.
    """
    content = read_bytes(path, what, MAX_JSON_BYTES, ConfigError)
    try:
        data = json.loads(
            content, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_distinct_keys
        )
    except ValueError as error:  # not UTF-8, not JSON, or refused by the functions below
        raise ConfigError(f"the {what} {str(path)!r} is not valid JSON: {_one_line(error)}.") from error
    except RecursionError as error:
        raise ConfigError(f"the {what} {str(path)!r} is not valid JSON: it is nested too deeply.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"the {what} {str(path)!r} is not a JSON object.")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated[:40]!r} stands twice")
    return found


def read_header(path: Path, what: str) -> dict[str, StoredTensor]:
    """The names, types and shapes of a safetensors file's tensors, without reading a tensor.

    Raises `WeightsError` if the file is no complete safetensors file, and what `check_file` raises. The library
    compares the declared sizes with the file's before it allocates anything.
    """
    from safetensors import safe_open

    if check_file(path, what) == 0:
        raise WeightsError(f"the {what} {str(path)!r} is empty.")
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
            return {name: StoredTensor(each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
    except Exception as error:  # besides its own error it raises those of Rust's and Python's standard libraries
        raise WeightsError(f"the {what} {str(path)!r} is not a complete safetensors file.") from error


def check_tensors(header: dict[str, StoredTensor], names: Collection[str], path: Path, what: str) -> None:
    """Raise `WeightsError` unless the file holds these tensors, no other, all of floating point."""
    for name in names:
        if name not in header:
            raise WeightsError(f"the {what} {str(path)!r} lacks {name!r}.")
    for name, tensor in header.items():
        if name not in names:
            raise WeightsError(f"the {what} {str(path)!r} holds {name!r}, which is not known.")
        if tensor.dtype not in FLOATS:
            raise WeightsError(f"{name!r} in {str(path)!r} has the type {tensor.dtype}; use {', '.join(FLOATS)}.")


def read_arrays(path: Path, names: Collection[str], what: str) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file as float32; it must hold these names and no other, and finite numbers.

    Raises `WeightsError`, and what `check_file` raises.
    """
    import numpy as np
    from safetensors.numpy import load_file

    header = read_header(path, what)
    check_tensors(header, names, path, what)
    for name, tensor in header.items():
        if tensor.dtype == "BF16":
            raise WeightsError(f"{name!r} in {str(path)!r} has the type BF16, which NumPy lacks; store it as F32.")
    try:
        found = load_file(path)
    except Exception as error:  # as in `read_header`
        raise WeightsError(f"the {what} {str(path)!r} is not a complete safetensors file.") from error
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        arrays = {name: value.astype(np.float32) for name, value in found.items()}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise WeightsError(f"{name!r} in {str(path)!r} holds NaN or infinity.")
    return arrays


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
