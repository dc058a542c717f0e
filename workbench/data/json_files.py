"""JSON and JSON lines into records; every mistake is one sentence that names its file and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dynrefer.workbench.errors import DataError

_Model = TypeVar("_Model", bound=BaseModel)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `DataError`: no such file, not UTF-8, not JSON."""
    return _parsed(_text(path), str(path))


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """What each line of a file holds that is not blank, after its place ("x.jsonl, line 2"). Raises `DataError`."""
    for number, line in enumerate(_text(path).split("\n"), 1):  # JSON's texts may hold the other line ends
        if line.strip():
            where = f"{path.name}, line {number}"
            yield where, _parsed(line, where)


def valid(model: type[_Model], raw: Any, where: str) -> _Model:
    """`raw` as a record. Raises `DataError` naming the first member that does not fit."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataError(f"{where}: {place}: {first['msg'].lower()}.") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text.") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON: {error}.") from error
