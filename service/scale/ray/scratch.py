"""The folder of a local cluster: sockets, logs, objects beyond the store. Removed with the run, or by the next one."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dynrefer.service.settings import SettingsError

PREFIX = "dynrefer-ray-"
# Ray lets everybody write into the folder that it is given: it is given one within ours, which is for its user alone.
WITHIN = "r"
# A Unix socket's path has at most 107 bytes. Ray's is FOLDER/r/session_DATE_TIME_MICROSECOND_PID/sockets/plasma_store.
MAX_PATH_BYTES = 107 - len("/r/session_2026-11-27_12-39-19_915329_4194304/sockets/plasma_store")
LOCK = "lock"
YOUNG_S = 60  # a folder without a lock may be one that is just being made
REMOVAL_S = 3


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of our own with a short path, removed at the end; those that killed runs left behind are removed first.

    Raises SettingsError where no temporary folder can be written or its path is too long.
    """
    parent = _parent()
    remove_left_behind(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when this process ends, however it does
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _parent() -> Path:
    """The system's temporary folder, or /tmp where that one's path is too long for a socket."""
    try:
        found = tempfile.gettempdir()
    except FileNotFoundError:
        raise SettingsError(
            "engine ray needs a temporary folder that can be written: in a container mount one (--tmpfs /tmp), or "
            "set TMPDIR to a short path."
        ) from None
    for each in (found, "/tmp"):
        if len(os.fsencode(each)) + len(f"/{PREFIX}12345678") <= MAX_PATH_BYTES and os.access(each, os.W_OK | os.X_OK):
            return Path(each)
    raise SettingsError(
        f"engine ray: the path of the temporary folder {found} is too long for the sockets in it; set TMPDIR to one "
        f"of at most {MAX_PATH_BYTES - len(f'/{PREFIX}12345678')} bytes."
    )


def remove_left_behind(parent: Path) -> None:
    """Remove the folders of this user's runs that no process holds any more."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid() and _is_dead(Path(entry.path)):
                        shutil.rmtree(entry.path, ignore_errors=True)


def _is_dead(folder: Path) -> bool:
    """Whether the run that made the folder has ended."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > YOUNG_S
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Remove it, though processes that are just ending may still write into it."""
    end = time.monotonic() + REMOVAL_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > end:
            return
        time.sleep(0.05)
