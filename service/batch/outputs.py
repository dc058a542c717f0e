"""The files that a run writes from its journal: which there are, by their endings, and how they take the place of those
of an earlier run: by a rename, once they are whole.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynrefer.service.batch.answers import Answers
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.formats.coco import write_coco
from dynrefer.service.batch.formats.lines import write_lines, write_objects
from dynrefer.service.batch.formats.parquet import write_parquet
from dynrefer.service.batch.formats.voc import write_voc
from dynrefer.service.batch.formats.yolo import write_yolo
from dynrefer.service.batch.journal import Journal


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """write: (path, answers) -> a file, or what goes into a folder that is there. needs: a package, of the extra
    `batch`."""

    ending: str
    what: str
    write: Callable[[Path, Answers], None]
    is_folder: bool = False
    needs: str = ""


# The first whose ending fits a name.
FORMATS = (
    OutputFormat(".coco.json", "COCO", write_coco),
    OutputFormat(".json", "COCO", write_coco),
    OutputFormat(".hf.jsonl", "Hugging Face's metadata.jsonl", write_objects),
    OutputFormat("metadata.jsonl", "Hugging Face's metadata.jsonl", write_objects),
    OutputFormat(".jsonl", "a line per image, as the service answers", write_lines),
    OutputFormat(".parquet", "a row per region", write_parquet, needs="pyarrow"),
    OutputFormat(".yolo", "a folder as Ultralytics lays it out", write_yolo, is_folder=True),
    OutputFormat(".voc", "a folder as Pascal VOC lays it out", write_voc, is_folder=True),
)
ENDINGS = ".jsonl, .parquet, .coco.json, .hf.jsonl, .yolo, .voc"


@dataclass(frozen=True, slots=True)
class Output:
    """A file or folder to write."""

    path: Path
    format: OutputFormat


def output_of(path: Path) -> Output:
    """By the name's ending. Raises BatchError for another ending, and where a package is missing."""
    found = next((each for each in FORMATS if path.name.endswith(each.ending)), None)
    if found is None:
        raise BatchError(f"{path}: the ending says what is written; use one of {ENDINGS}.")
    if found.needs and importlib.util.find_spec(found.needs) is None:
        raise BatchError(f"{path} needs the package {found.needs}: pip install 'dynrefer[batch]' adds it.")
    return Output(path, found)


def check_place(output: Output, given: Path, read: Iterable[Path | None]) -> None:
    """Before any work. given: IN. read: what the command reads. Raises BatchError."""
    path = output.path
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BatchError(f"cannot write {path}: no such folder, or no permission to write there.")
    if output.format.is_folder and given.is_dir() and path.resolve().is_relative_to(given.resolve()):
        raise BatchError(f"{path} would lie in {given}, whose images it links; name a folder elsewhere.")
    if os.path.lexists(path):
        if any(each is not None and each.exists() and path.samefile(each) for each in read):
            raise BatchError(f"{path} is what this command reads; choose another name.")
        if path.is_dir() != output.format.is_folder or path.is_symlink():
            kind = "folder" if output.format.is_folder else "file"
            raise BatchError(f"cannot write {path}: it is there and no plain {kind}; choose another name.")


def check_free(path: Path, journal: Journal, *, overwrite: bool) -> None:
    """Raise BatchError where there is something that was not written from this journal."""
    if os.path.lexists(path) and not overwrite and not journal.wrote(path):
        raise BatchError(f"{path} exists; pass --overwrite to replace it, or choose another name.")


def write_output(output: Output, answers: Answers) -> None:
    """Write it beside its place, then put it there. Raises BatchError."""
    path = output.path
    new = path.with_name(f".{path.name}.new")
    answers.journal.note(path)
    try:
        _remove(new)
        if output.format.is_folder:
            new.mkdir()
        output.format.write(new, answers)
        _replace(new, path)
    except OSError as error:
        _remove(new)
        raise BatchError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}.") from None


def write_failures(path: Path, answers: Answers) -> int:
    """A line per image or region that was not answered, with the reason; no file where there is none.

    Returns how many there are.
    """
    new = path.with_name(f".{path.name}.new")
    count = 0
    try:
        with new.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for failure in answers.failures():
                file.write(_line(failure))
                count += 1
        if count:
            answers.journal.note(path)
            _replace(new, path)
        else:
            _remove(new)
            _remove(path)
    except OSError as error:
        raise BatchError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}.") from None
    return count


def failures_path(out: Path) -> Path:
    """Of an output."""
    return out.with_name(out.name + ".failed.jsonl")


def _line(document: Mapping[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False) + "\n"


def _replace(new: Path, path: Path) -> None:
    """The rename; what was there is gone only once the new one is on the disk."""
    if new.is_dir():
        old = path.with_name(f".{path.name}.old")
        _remove(old)
        if path.exists():
            path.rename(old)
        new.rename(path)
        _remove(old)
    else:
        with new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
