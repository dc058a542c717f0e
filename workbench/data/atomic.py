"""Files that are whole or not there, even if the machine loses its power."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the disk holds a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write UTF-8; until the disk holds all of it, `path` keeps what it held. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # processes of one run may write at the same time
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)
