"""Names of files as annotation tools write them -> paths of this machine.

A name is tried as it is written, then with slashes for backslashes (tools on Windows), with its percent signs decoded
(tools that list addresses), and with its accents composed or decomposed (archives from macOS). Only what exists counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_DRIVE = re.compile(r"(?:^|/)(?:[A-Za-z]:[\\/]|\\\\)")
_ADDRESS = re.compile(r"(?:^|/)[A-Za-z][A-Za-z0-9+.-]+:/")  # a `Path` joins the slashes of "http://"


def listed_path(folder: Path, name: str, exists: Callable[[Path], bool] = Path.is_file) -> Path:
    """The first spelling of `name` in `folder` that exists, else the name as it is written.

    exists: `Path.is_file` or `Path.is_dir`. A plain name is not looked up: nothing else could be meant.
    """
    written = folder / name
    spellings = list(_other_spellings(name))
    if spellings:
        for path in (written, *(folder / each for each in spellings)):
            try:
                if exists(path):
                    return path
            except (OSError, ValueError):  # a name that this file system cannot hold
                continue
    return written


def _other_spellings(name: str) -> Iterator[str]:
    decoded = unquote(name, errors="strict") if _decodable(name) else name
    spellings = [name.replace("\\", "/"), decoded, decoded.replace("\\", "/")]
    spellings += [each for spelling in (name, *spellings) if not spelling.isascii() for each in _normalized(spelling)]
    return (each for each in dict.fromkeys(spellings) if each != name)


def _decodable(name: str) -> bool:
    if not _ESCAPE.search(name):
        return False
    try:
        return "\0" not in unquote(name, errors="strict")
    except UnicodeDecodeError:
        return False


def _normalized(name: str) -> tuple[str, str]:
    return unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


def missing_hint(path: str) -> str:
    """What may be wrong with a path that does not exist, as a clause to append; empty where nothing is suspicious."""
    if _ADDRESS.search(path):
        return "; it looks like an address: list the file's name in the folder of the images"
    if _DRIVE.search(path):
        return "; it looks like a path of Windows: list the file's name in the folder of the images"
    if "\\" in path:
        return "; its name holds a backslash, and with slashes there is none either"
    if _ESCAPE.search(path):
        return "; its name holds a percent sign, and decoded there is none either"
    return ""
