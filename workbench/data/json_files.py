"""JSON and JSON-lines files; every error is one sentence that names the file and the place in it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynrefer.workbench.errors import DataError

_ENCODING = "utf-8-sig"  # Windows' editors and shells begin a file with a byte order mark; RFC 8259, 8.1
_MARK = "\ufeff"


def read_json(path: Path) -> Any:
    """The content of a JSON file, with or without a byte order mark.

    Raises `DataError`: no such file, not UTF-8, not JSON.
    """
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
                text = line.lstrip(_MARK)  # files with a mark that were joined have one in the middle too
                if text.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The value of each line that is not blank, with its place ("x.jsonl, line 2"). Raises `DataError`."""
    for number, line in read_text_lines(path):
        where = f"{path.name}, line {number}"
        yield where, _parsed(line, where)


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> DataError:
    if isinstance(error, OSError):
        return DataError(f"cannot read {path}: {error.strerror}.")
    wide = error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return DataError(f"{path} is {'UTF-16' if wide else 'not UTF-8'} text; save it as UTF-8.")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON: {error}.") from error
