"""Files that appear whole or not at all, even if the machine loses power."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the disk holds a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give the name of a temporary file beside `path` to write to; after the block it replaces `path`.

    Until the disk holds all of the new content, `path` keeps its old one. If the block raises, the temporary file is
    removed. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # processes of one run may write at the same time
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a UTF-8 file by `write_atomically`. Raises OSError."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
