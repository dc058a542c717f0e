"""A folder of corrections: `corrections.jsonl`, one JSON object a line, and the image files in `images/`.

Lines are appended and never changed: a later line with the same `id` replaces an earlier one, `"deleted": true` takes
it away. Several processes may write: each holds a lock, and writes whole lines at once. A line that a crash cut off is
removed by the next writer, and ignored by readers.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dynrefer.service.integrations.label_studio.corrections import Line, Origin

FILE, IMAGES, LOCK = "corrections.jsonl", "images", ".lock"
NAME_DIGITS = 32  # of the digest of an image's file
PIECE_BYTES = 65_536
# How an image's file begins, and what it is called then.
BEGINNINGS = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


class NoImageError(ValueError):
    """Bytes that are no image's file."""


class CorrectionsFolder:
    """A folder of corrections, made where it is missing. Its methods block; OSError is the file system's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Have it, and see whether it can be written. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("a"):
            pass

    def replace(self, covered: Callable[[Origin], bool], lines: Sequence[Line], image: bytes | None = None) -> int:
        """Have these lines in the place of all of the origins that are covered -> how many lines were appended.

        image: the file that the lines are about; None where there are no lines, or each names its own. What stands
        there already is not written again. Raises NoImageError.
        """
        self.make()
        if image is not None and lines:
            name = self.keep_image(image)
            lines = [_in_order({**line, "image": name}) for line in lines]
        with self._locked() as file:
            present = self._present(file, covered)
            new = [line for line in lines if present.get(line["id"]) != line]
            kept = {line["id"] for line in lines}
            new += [{"id": name, "deleted": True} for name in present if name not in kept]
            if new:
                file.seek(0, os.SEEK_END)
                file.write(
                    "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in new).encode("utf-8", "replace")
                )
                file.flush()
                os.fsync(file.fileno())
        return len(new)

    def keep_image(self, image: bytes) -> str:
        """Put an image's file into the folder -> its name there, which follows from its bytes. Raises NoImageError."""
        name = f"{hashlib.sha256(image).hexdigest()[:NAME_DIGITS]}.{_extension(image)}"
        target = self.path / IMAGES / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            new = target.with_name(f".{name}.{os.getpid()}")
            new.write_bytes(image)
            os.replace(new, target)
        return f"{IMAGES}/{name}"

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file, whole lines only, while no other process writes."""
        with (self.path / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (self.path / FILE).open("a+b") as file:
                _cut_unfinished_line(file)
                yield file

    def _present(self, file: BinaryIO, covered: Callable[[Origin], bool]) -> dict[str, Line]:
        """The latest line of each id that is covered and was not deleted."""
        file.seek(0)
        found: dict[str, Line] = {}
        for text in file:
            try:
                line: Any = json.loads(text)
                origin = Origin.of(line["id"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # another source's, or somebody's slip: it stays as it is
            if origin is not None and covered(origin):
                found[line["id"]] = line
        return {name: line for name, line in found.items() if not line.get("deleted")}


def _cut_unfinished_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - PIECE_BYTES)
        file.seek(start)
        piece = file.read(end - start)
        if (last := piece.rfind(b"\n")) >= 0:
            end = start + last + 1
            break
        end = start
    file.truncate(end)


def _in_order(line: Line) -> Line:
    """The id, the image, then the rest."""
    return {"id": line["id"], "image": line["image"], **line}


def _extension(image: bytes) -> str:
    for begins, extension in BEGINNINGS:
        if image.startswith(begins):
            return extension
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    if image[4:12] in (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "avif" if image[8:12] == b"avif" else "heic"
    raise NoImageError("What the task names as its image is no image's file.")
