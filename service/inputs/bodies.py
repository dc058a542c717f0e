"""Reading request bodies: each is limited, and so is the memory of all bodies at a time."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from starlette.requests import Request

from dynrefer.service.errors import BodyTooLargeError, QueueFullError


class Buffer:
    """The bytes of bodies that the process may hold at a time. Used by the event loop's thread alone.

    on_full: called for each request that does not fit.
    """

    def __init__(self, max_bytes: int, on_full: Callable[[], None] = lambda: None) -> None:
        self.max_bytes = max_bytes
        self.on_full = on_full
        self.held_bytes = 0

    def lease(self) -> "Lease":
        """One request's part of the buffer; a context manager that gives it back."""
        return Lease(self)


class Lease:
    """What one request holds of the buffer."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._bytes = 0

    def add(self, length: int) -> None:
        """Take so many bytes more. Raises QueueFullError where the buffer has no room for them."""
        if self._buffer.held_bytes + length > self._buffer.max_bytes:
            self._buffer.on_full()
            raise QueueFullError("The service is receiving as many bytes as it can hold; try again later.")
        self._buffer.held_bytes += length
        self._bytes += length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._buffer.held_bytes -= self._bytes


async def read_body(request: Request, max_bytes: int, lease: Lease) -> bytes:
    """The whole body. Raises BodyTooLargeError as soon as it is known to be too large, or QueueFullError."""
    too_large = BodyTooLargeError(f"The body is larger than {max_bytes} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        lease.add(len(chunk))
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
