"""Messages between processes: small records through a Unix socket, arrays beside them in shared memory.

A parcel is a pickle (protocol 5) whose large buffers are left out of it. They lie in an anonymous memory file
(memfd_create), whose descriptor goes along with the message: nothing has a name in a file system, /dev/shm and /tmp are
not needed, and the kernel frees the memory with the last process that holds it, however that ended. Where there are no
such files the buffers follow the message through the socket.

What comes from a worker process is not trusted, because that process decodes hostile images: only records of the
modules that are named can be made from it, and its memory must be sealed against shrinking.
"""

import importlib
import io
import mmap
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from enum import Enum
from typing import Any

Buffer = bytes | memoryview

HEADER = struct.Struct(">III")  # bytes of the pickle; number of buffers; whether they are in a file that goes along
SIZE = struct.Struct(">Q")
INLINE_BYTES = 1 << 14  # buffers up to so many bytes in all follow the message: a file would cost more
MAX_PICKLE_BYTES = 1 << 26
MAX_BUFFERS = 1 << 16
MAX_BUFFER_BYTES = 1 << 33
PAGE = 64  # buffers begin at a multiple of so many bytes

NUMPY = ("numpy", "numpy._core.numeric", "numpy._core.multiarray", "numpy.core.numeric", "numpy.core.multiarray")
NUMPY_NAMES = ("_frombuffer", "_reconstruct", "dtype", "ndarray", "scalar")


class ParcelError(Exception):
    """Bytes that are no parcel, or one that may not be opened."""


class ClosedError(Exception):
    """The other side has closed the socket, or ended."""


class _RecordsOnly(pickle.Unpickler):
    """Makes records and arrays, and nothing else: no function of any module is called but array constructors."""

    def __init__(self, data: bytes, buffers: Sequence[Buffer], modules: Sequence[str]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._modules = tuple(modules)

    def find_class(self, module: str, name: str) -> Any:
        """Raises ParcelError for what is neither a class of the modules nor an array's constructor."""
        if (module, name) == ("builtins", "getattr"):
            return _member
        if module in NUMPY and name in NUMPY_NAMES:
            return getattr(importlib.import_module(module), name)
        if module in self._modules and "." not in name:
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type):
                return found
        raise ParcelError(f"a worker sent a {module}.{name}")


def _member(enumeration: Any, name: Any) -> Enum:
    """A member of an enumeration, as Python up to 3.11.4 pickles it. Raises ParcelError for anything else."""
    if not (
        isinstance(enumeration, type)
        and issubclass(enumeration, Enum)
        and isinstance(name, str)
        and name in enumeration.__members__
    ):
        raise ParcelError(f"a worker asked for {str(name)!r:.40} of what is no enumeration with such a member")
    return enumeration[name]


def pack(value: Any) -> tuple[bytes, int | None]:
    """A message's bytes, and the descriptor of the file that goes along, which the caller closes."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [each.raw() for each in buffers]
    sizes = b"".join(SIZE.pack(len(view)) for view in views)
    total = sum(len(view) for view in views)
    file = None if total <= INLINE_BYTES else _filled(views)
    head = HEADER.pack(len(data), len(views), file is not None) + sizes + data
    return (head if file is not None else b"".join((head, *views))), file


def _filled(views: Sequence[memoryview]) -> int | None:
    """A sealed memory file with the buffers one after the other; None where there are no such files."""
    try:
        file = os.memfd_create("dynrefer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        return None
    import fcntl  # not on Windows

    try:
        os.ftruncate(file, sum(_padded(len(view)) for view in views))
        at = 0
        for view in views:
            _write(file, view, at)
            at += _padded(len(view))
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError:
        os.close(file)
        return None
    return file


def _write(file: int, view: memoryview, at: int) -> None:
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _padded(size: int) -> int:
    return -(-size // PAGE) * PAGE


def send(sock: socket.socket, value: Any) -> None:
    """Send one message over a blocking socket. Raises ClosedError."""
    message, file = pack(value)
    try:
        send_packed(sock, message, file)
    finally:
        if file is not None:
            os.close(file)


def send_packed(sock: socket.socket, message: bytes, file: int | None) -> None:
    """Send what `pack` made over a blocking socket. Raises ClosedError."""
    try:
        sent = 0 if file is None else socket.send_fds(sock, [message], [file])
        sock.sendall(memoryview(message)[sent:])
    except (BrokenPipeError, ConnectionResetError):
        raise ClosedError from None


class Reader:
    """Puts messages together from what arrives on a socket. modules: whose records a message may hold; None trusts it.

    For one thread.
    """

    def __init__(self, sock: socket.socket, modules: Sequence[str] | None) -> None:
        self._sock = sock
        self._modules = modules
        self._data = bytearray()
        self._files: list[int] = []

    def trust(self, modules: Sequence[str]) -> None:
        """From now on, messages may hold records of these modules."""
        self._modules = modules

    def quiet(self) -> bool:
        """Whether the socket, which does not block, is open and nothing has come that nobody asked for."""
        try:
            self.fill()
        except BlockingIOError:
            return not self._data
        except ClosedError:
            pass
        return False

    def receive(self) -> Any:
        """The next message, over a blocking socket. Raises ClosedError, ParcelError."""
        while (found := self.next()) is None:
            self.fill()
        return found[0]

    def fill(self) -> None:
        """Read what is there. Raises ClosedError at the end, BlockingIOError where nothing is there yet."""
        try:
            data, files, _, _ = socket.recv_fds(self._sock, 1 << 20, 4)
        except (ConnectionResetError, BrokenPipeError):
            raise ClosedError from None
        self._files += files
        if not data:
            raise ClosedError
        self._data += data

    def next(self) -> tuple[Any] | None:
        """The next message in a tuple, None where it is not complete. Raises ParcelError."""
        if len(self._data) < HEADER.size:
            return None
        length, count, has_file = HEADER.unpack_from(self._data)
        if length > MAX_PICKLE_BYTES or count > MAX_BUFFERS or has_file > 1:
            raise ParcelError("a message of this size is not sent")
        begin = HEADER.size + count * SIZE.size
        if len(self._data) < begin + length:
            return None
        sizes = [SIZE.unpack_from(self._data, HEADER.size + i * SIZE.size)[0] for i in range(count)]
        if sum(sizes) > MAX_BUFFER_BYTES:
            raise ParcelError("a message of this size is not sent")
        end = begin + length
        if has_file:
            buffers = self._mapped(sizes)
        else:
            if len(self._data) < end + sum(sizes):
                return None
            buffers, end = self._inline(sizes, end)
        data = bytes(memoryview(self._data)[begin : begin + length])
        del self._data[:end]
        return (self._opened(data, buffers),)

    def _opened(self, data: bytes, buffers: Sequence[Buffer]) -> Any:
        try:
            if self._modules is None:
                return pickle.loads(data, buffers=buffers)
            return _RecordsOnly(data, buffers, self._modules).load()
        except ParcelError:
            raise
        except Exception as error:  # whatever bytes can make unpickling raise
            raise ParcelError(f"a message cannot be read: {type(error).__name__}") from error

    def _inline(self, sizes: Sequence[int], at: int) -> tuple[list[Buffer], int]:
        buffers: list[Buffer] = []
        for size in sizes:
            buffers.append(bytes(memoryview(self._data)[at : at + size]))
            at += size
        return buffers, at

    def _mapped(self, sizes: Sequence[int]) -> list[Buffer]:
        """The buffers in the file that came along; it is unmapped with the last of them."""
        if not self._files:
            raise ParcelError("a message came without its file")
        import fcntl  # not on Windows

        file = self._files.pop(0)
        try:
            total = sum(map(_padded, sizes))
            # Reading memory that a file has lost would end this process.
            if not fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK or os.fstat(file).st_size < total:
                raise ParcelError("a message's file can shrink")
            mapped = memoryview(mmap.mmap(file, total, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise ParcelError(f"a message's file cannot be read: {type(error).__name__}") from None
        finally:
            os.close(file)
        buffers: list[Buffer] = []
        at = 0
        for size in sizes:
            buffers.append(mapped[at : at + size])
            at += _padded(size)
        return buffers

    def take_file(self) -> int:
        """A descriptor that came with the newest message beside its buffers. Raises ParcelError where none did."""
        if not self._files:
            raise ParcelError("a message came without its descriptor")
        return self._files.pop(0)

    def close(self) -> None:
        """Close the files of messages that were never read."""
        for file in self._files:
            os.close(file)
        self._files.clear()
