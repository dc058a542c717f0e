"""A folder of corrections: `corrections.jsonl`, one JSON object a line, and the image files in `images/`.

Lines are appended and never changed: a later line with the same `id` replaces an earlier one, `"deleted": true` takes
it away. Several processes may write: each holds a lock, and writes whole lines at once. A last line that a crash cut
off is removed by the next writer, and ignored by readers.
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


class FolderFullError(Exception):
    """The folder has as many bytes as it may have."""


class CorrectionsFolder:
    """A folder of corrections, made where it is missing. Its methods block; OSError is the file system's.

    max_bytes: of the lines and images, beyond which nothing is added; None: no limit. One thread at a time may use it.
    """

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._index = Index()
        self._images_counted, self._images_bytes = 0, 0

    def make(self) -> None:
        """Have it, and see whether it can be written. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("a"):
            pass

    def replace(self, covered: Callable[[Origin], bool], lines: Sequence[Line], image: bytes | None = None) -> int:
        """Have these lines in the place of all of the origins that are covered -> how many lines were appended.

        image: the file that the lines are about; None where there are no lines, or each names its own. What stands
        there already is not written again. Raises NoImageError, FolderFullError.
        """
        self.make()
        with self._locked() as file:
            self._index.read_on(file)
            if image is not None and lines:
                name = self.keep_image(image)
                lines = [_in_order({**line, "image": name}) for line in lines]
            present = self._index.present(covered)
            new = [line for line in lines if present.get(line["id"]) != digest_of(line)]
            kept = {line["id"] for line in lines}
            new += [{"id": name, "deleted": True} for name in present if name not in kept]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in new).encode("utf-8", "replace")
            if lines:  # what only takes regions away always has room
                self._require_room(len(text))
            if new:
                file.seek(0, os.SEEK_END)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        return len(new)

    def keep_image(self, image: bytes) -> str:
        """Put an image's file into the folder -> its name there, which follows from its bytes.

        Raises NoImageError, FolderFullError.
        """
        name = f"{hashlib.sha256(image).hexdigest()[:NAME_DIGITS]}.{_extension(image)}"
        target = self.path / IMAGES / name
        if not target.exists():
            self._require_room(len(image))
            held = self._images_bytes
            target.parent.mkdir(parents=True, exist_ok=True)
            new = target.with_name(f".{name}.{os.getpid()}")
            new.write_bytes(image)
            os.replace(new, target)
            self._images_counted, self._images_bytes = self._images_changed(), held + len(image)
        return f"{IMAGES}/{name}"

    def _require_room(self, length: int) -> None:
        if self._max_bytes is None or not length:
            return
        file = self.path / FILE
        held = self._held_by_images() + (file.stat().st_size if file.exists() else 0)
        if held + length > self._max_bytes:
            raise FolderFullError(
                f"{self.path} holds {held} bytes and may hold {self._max_bytes}, the setting "
                f"label_studio_corrections_bytes; {length} more have no room"
            )

    def _held_by_images(self) -> int:
        """Counted anew only where another process has put images into the folder, or taken some away."""
        changed = self._images_changed()
        if changed != self._images_counted:
            with os.scandir(self.path / IMAGES) as files:
                self._images_bytes, self._images_counted = sum(each.stat().st_size for each in files), changed
        return self._images_bytes

    def _images_changed(self) -> int:
        """When a file was last put into the folder of images, in nanoseconds; 0 where there is none."""
        folder = self.path / IMAGES
        return folder.stat().st_mtime_ns if folder.exists() else 0

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The file, whole lines only, while no other process writes."""
        with (self.path / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (self.path / FILE).open("a+b") as file:
                _end_last_line(file)
                yield file


class Index:
    """The digest of the latest line of each id, by origin. Of a file that has only grown, what is new is read."""

    def __init__(self) -> None:
        self._file: tuple[int, int] | None = None
        self._end = 0
        self._lines: dict[Origin, dict[str, bytes]] = {}

    def read_on(self, file: BinaryIO) -> None:
        """Read what this or another process has appended."""
        found = os.fstat(file.fileno())
        if self._file != (found.st_dev, found.st_ino) or found.st_size < self._end:
            self._file, self._end, self._lines = (found.st_dev, found.st_ino), 0, {}
        file.seek(self._end)
        for text in file:
            self._add(text)
        self._end = file.tell()

    def _add(self, text: bytes) -> None:
        try:
            line: Any = json.loads(text)
            name = line["id"]
            origin = Origin.of(name)
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # another source's, or somebody's slip: it stays as it is
        if origin is None:
            return
        if not line.get("deleted"):
            self._lines.setdefault(origin, {})[name] = digest_of(line)
        elif (of_origin := self._lines.get(origin)) is not None:
            of_origin.pop(name, None)
            if not of_origin:
                del self._lines[origin]

    def present(self, covered: Callable[[Origin], bool]) -> dict[str, bytes]:
        """The lines of the origins that are covered, but for those that were deleted: id -> digest."""
        return {
            name: found for origin, lines in self._lines.items() if covered(origin) for name, found in lines.items()
        }


def digest_of(line: Line) -> bytes:
    """Of what a line says, in whatever order. 16 bytes."""
    text = json.dumps(line, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def _end_last_line(file: BinaryIO) -> None:
    """Give a last line without a line feed one if it is whole, as one that an editor wrote is; else cut it off."""
    end = file.seek(0, os.SEEK_END)
    start = _last_line_start(file, end)
    if start == end:
        return
    file.seek(start)
    try:
        json.loads(file.read())
    except ValueError:
        file.truncate(start)
    else:
        file.write(b"\n")
        file.flush()


def _last_line_start(file: BinaryIO, end: int) -> int:
    """Where what follows the last line feed begins."""
    while end:
        start = max(0, end - PIECE_BYTES)
        file.seek(start)
        if (last := file.read(end - start).rfind(b"\n")) >= 0:
            return start + last + 1
        end = start
    return 0


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
