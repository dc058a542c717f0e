"""Listening on a Unix socket: a file that only one process may listen on, and that nobody else removes."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from dynrefer.service.settings import SettingsError

BACKLOG = 2_048  # connections that wait to be accepted
UMASK = 0o117  # the file's mode becomes 660: owner and group may connect


@contextlib.contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket at the path, whose file is removed at the end.

    A file left by a process that has ended is replaced. Raises SettingsError, in one sentence, where a process listens
    there, something else than a socket lies there, or the system refuses.
    """
    path = path.absolute()
    if not hasattr(socket, "AF_UNIX"):
        raise SettingsError("unix_socket needs a system that has Unix sockets; set host and port.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        _bind(listener, path)
        made = path.stat()
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno).lower() if error.errno else "the path is too long"
        raise SettingsError(f"cannot listen on unix_socket {path}: {reason}.") from None
    except SettingsError:
        listener.close()
        raise
    try:
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(OSError):  # somebody has removed it, or replaced it by a socket of their own
            if os.path.samestat(made, path.stat()):
                path.unlink()


def _bind(listener: socket.socket, path: Path) -> None:
    # By the umask and not afterwards: between the two anybody could connect. No thread makes files yet.
    before = os.umask(UMASK)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises SettingsError for anything else, OSError where the system
    refuses to tell."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"unix_socket {path} exists and is no socket; name a path that is free.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is an error then
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise SettingsError(f"another process listens on unix_socket {path}; stop it or name another path.")
