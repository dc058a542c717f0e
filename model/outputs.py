"""What a command writes: never one of the files that it reads, and an existing file only if that is asked for.

Called before any work, so that hours of it are not lost, and before anything is opened for writing. No torch.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from dynrefer.model.errors import OutputFileError

Output = tuple[str, Path]  # the option that names it, for messages, and the file


def check_outputs(outputs: Sequence[Output], inputs: Iterable[Path | None], *, overwrite: bool = False) -> None:
    """Raise `OutputFileError` for an output that must not be written.

    That is: a file that the command reads (`refuse_inputs`), one that it writes twice, a folder or device, and, without
    `overwrite`, any file that exists.
    """
    refuse_inputs(outputs, inputs)
    written: dict[str, str] = {}
    for option, path in outputs:
        other = written.setdefault(_spelled(path), option)
        if other != option:
            raise OutputFileError(f"{option} and {other} would both write {path}; name two files.")
        if not os.path.lexists(path):
            continue
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise OutputFileError(f"{option} {path} is not a regular file; name a file to write.")
        if not overwrite:
            raise OutputFileError(f"{option}: {path} exists; pass --overwrite to replace it, or choose another name.")


def refuse_inputs(outputs: Sequence[Output], inputs: Iterable[Path | None]) -> None:
    """Raise `OutputFileError` for an output that is an input, whatever its spelling: relative, a link, another case.

    inputs: files, and folders of which every file is read, such as a model's; None is left out. A file that is not
    there yet can be no input.
    """
    existing = [(option, path) for option, path in outputs if path.exists()]
    if not existing:
        return
    taken = {_identity(path): (option, path) for option, path in existing}
    for given in inputs:
        for file in _files(given):
            if (found := taken.get(_identity(file))) is not None:
                option, path = found
                raise OutputFileError(f"{option} {path} is {file}, which this command reads; choose another name.")


def _files(given: Path | None) -> Iterable[Path]:
    """The file, or those in the folder, that are there."""
    if given is None:
        return ()
    found = given.rglob("*") if given.is_dir() else (given,)
    return [path for path in found if path.is_file()]


def _identity(path: Path) -> tuple[int, int]:
    """Device and number: one for all names, links and spellings of a file, as in `os.path.samefile`."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _spelled(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))
