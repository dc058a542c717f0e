"""Every answer of a batch run, one JSON line per image in the order in which they came, from which a run goes on.

The first line says what was asked; a run with other settings does not go on with it. A line is one `write`, so a
process that is killed leaves at most its last line torn, and that is cut off when the journal is opened again. Of two
lines about one item the later one holds: an image that failed may be tried again. Other lines name the files that were
written from it. The file is locked while it is open.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Digest

VERSION = 1
LATE = ("revision",)  # settings that are known only once the model is loaded
_MARK = "dynrefer_batch"
_DIGEST_BYTES = 16
_START = b'{"' + _MARK.encode() + b'"'


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an item's line is. offset: in bytes. regions: how many it holds. failed: of these, or of the image itself,
    how many errors."""

    offset: int
    regions: int
    failed: int


def journal_path(out: Path) -> Path:
    """The journal of an output."""
    return out.with_name(out.name + ".journal.jsonl")


class Journal:
    """An open journal. `cut`: how many bytes of a torn line were cut off. For one thread, but for `sync`."""

    def __init__(self, path: Path) -> None:
        """Open it, or make an empty one.

        Raises BatchError where another process has it, where it is not ours, and where it cannot be written.
        """
        self.path = path
        self.cut = 0
        self._settings: Mapping[str, Any] | None = None  # of its first line
        self._wrote: set[str] = set()  # files, as paths from the journal's folder
        self._entries: dict[Digest, Entry] = {}
        self._unsynced = False
        self._fd = self._locked()
        try:
            self._end = self._read()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        """How many items have a line."""
        return len(self._entries)

    @property
    def begun(self) -> bool:
        """Whether it says what was asked."""
        return self._settings is not None

    @property
    def end(self) -> int:
        """Where the next line begins, in bytes."""
        return self._end

    def check(self, settings: Mapping[str, Any]) -> None:
        """settings: what the answers depend on, besides the items; LATE ones may be missing.

        Raises BatchError where the journal was begun with others.
        """
        if self._settings is None:
            return
        then, now = {**self._settings}, {**settings}
        for name in dict.fromkeys((*settings, *self._settings)):
            if then.get(name) != now.get(name) and not (name in LATE and name not in now):
                before, after = _shown(then.get(name)), _shown(now.get(name))
                raise BatchError(
                    f"{self.path} was begun with {name} {before}, and this run has {after}: go on with the same "
                    "options, remove the journal to begin anew, or choose another --out."
                )

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Say what is asked, before anything is appended; where the journal says it already, `check` it."""
        if self._settings is not None:
            self.check(settings)
            return
        data = _encoded({_MARK: VERSION, "settings": settings})
        self._write(data)
        self.sync()
        self._settings, self._end = settings, len(data)

    def get(self, digest: Digest) -> Entry | None:
        """Where an item's line is, or None where it has none."""
        return self._entries.get(digest)

    def append(self, digest: Digest, line: Mapping[str, Any]) -> Entry:
        """Write an item's line: the answer or why there is none. Raises BatchError where it cannot be written."""
        data = _encoded({"item": digest.hex(), **line})
        entry = _entry(self._end, line)
        self._write(data)
        self._end += len(data)
        self._entries[digest] = entry
        return entry

    def wrote(self, path: Path) -> bool:
        """Whether a file was written from this journal, and may be replaced."""
        return self._relative(path) in self._wrote

    def note(self, path: Path) -> None:
        """Remember that a file is about to be written. Raises BatchError."""
        if not self.wrote(path):
            data = _encoded({"wrote": self._relative(path)})
            self._write(data)
            self._end += len(data)
            self._wrote.add(self._relative(path))

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path.absolute(), self.path.parent.absolute())

    def sync(self) -> None:
        """Have the system write to the disk what was appended."""
        if self._unsynced:
            self._unsynced = False
            os.fsync(self._fd)

    def lines(self, order: Iterable[Digest]) -> Iterator[dict[str, Any]]:
        """The lines of these items, in this order; items without one are left out."""
        with os.fdopen(os.dup(self._fd), "rb") as file:
            for digest in order:
                if (entry := self._entries.get(digest)) is not None:
                    file.seek(entry.offset)
                    line = json.loads(file.readline())
                    del line["item"]
                    yield line

    def close(self) -> None:
        """Sync and unlock it. One that was not begun is removed."""
        try:
            self.sync()
            if not self.begun:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._fd)

    def _locked(self) -> int:
        """The open and locked file."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise BatchError(f"cannot write {self.path}: {os.strerror(error.errno or 0).lower()}.") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)  # it is another's, or was removed by one that ended meanwhile
        raise BatchError(f"another process is writing {self.path}; wait for it, or choose another --out.")

    def _read(self) -> int:
        """Read what is there, and cut off what is torn. Returns where the next line begins."""
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            size, end = os.fstat(self._fd).st_size, 0
            first = file.readline()
            if first.endswith(b"\n") or not _START.startswith(first[: len(_START)]):
                self._settings = self._header(first)
                end = len(first)
            for line in file:
                found = _parsed(line)
                if found is None:
                    break
                if "wrote" in found:
                    self._wrote.add(found["wrote"])
                else:
                    self._entries[bytes.fromhex(found["item"])] = _entry(end, found)
                end += len(line)
        if end < size:
            self.cut = size - end
            os.ftruncate(self._fd, end)
        return end

    def _header(self, first: bytes) -> Mapping[str, Any]:
        try:
            header = json.loads(first)
            version, settings = header[_MARK], header["settings"]
        except (ValueError, KeyError, TypeError):
            raise BatchError(
                f"{self.path} is no journal of `dynrefer batch`; remove it or choose another --out."
            ) from None
        if version != VERSION or not isinstance(settings, dict):
            raise BatchError(f"{self.path} is of another version of dynrefer; remove it or choose another --out.")
        return settings

    def _write(self, data: bytes) -> None:
        self._unsynced = True
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise BatchError(f"cannot write {self.path}: {os.strerror(error.errno or 0).lower()}.") from None


def _entry(offset: int, line: Mapping[str, Any]) -> Entry:
    regions = line.get("regions", ())
    failed = 1 if "error" in line else sum("error" in region for region in regions)
    return Entry(offset, len(regions), failed)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A whole line of ours; None for one that is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
        if isinstance(found.get("wrote"), str) or len(bytes.fromhex(found["item"])) == _DIGEST_BYTES:
            return dict(found)
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _encoded(document: Mapping[str, Any]) -> bytes:
    # A file name that is not UTF-8 holds lone surrogates, which JSON can write and UTF-8 cannot.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
