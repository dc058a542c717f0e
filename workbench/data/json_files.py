"""JSON and JSON-lines files; every error is one sentence that names the file and the place in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dynrefer.workbench.errors import DataError

_ENCODING = "utf-8"
_Model = TypeVar("_Model", bound=BaseModel)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `DataError`: no such file, not UTF-8, not JSON."""
    try:
        text = path.read_text(encoding=_ENCODING)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return _parsed(text, str(path))


def read_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1, read one at a time. Raises `DataError`.

    A line ends at a line feed or carriage return only: a JSON string may hold Unicode's other separators.
    """
    try:
        with path.open(encoding=_ENCODING) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The value of each line that is not blank, with its place ("x.jsonl, line 2"). Raises `DataError`."""
    for number, line in read_text_lines(path):
        where = f"{path.name}, line {number}"
        yield where, _parsed(line, where)


def validated(model: type[_Model], raw: Any, where: str) -> _Model:
    """`raw` as a record. Raises `DataError` naming the first member that does not fit."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{where}: {first_problem(error)}.") from error


def first_problem(error: ValidationError) -> str:
    """The first member that does not fit and why, without a full stop."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{place}: {first['msg'].lower()}"


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> DataError:
    if isinstance(error, OSError):
        return DataError(f"cannot read {path}: {error.strerror}.")
    return DataError(f"{path} is not UTF-8 text.")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON: {error}.") from error
