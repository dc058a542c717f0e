"""Reading request bodies: each is limited, and so is the memory of all at a time, as a whole and of one API key.

What counts are the bytes that a request holds for long: its body until that is parsed, then its encoded image, however
it came. While a body is parsed there are both, but no more requests are parsed at a time than there are CPU threads.
"""

import io
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from starlette.requests import Request

from dynrefer.service.errors import BodyTooLargeError, QueueFullError


class Buffer:
    """The bytes that requests may hold at a time. Used by the event loop's thread alone.

    max_key_bytes: of those, what the requests of one API key may hold; 0: no limit. max_bytes_of: the same of callers
    that have another limit, by name. on_full: called for each request that does not fit, with the reason.
    """

    def __init__(
        self,
        max_bytes: int,
        max_key_bytes: int = 0,
        on_full: Callable[[str], None] = lambda reason: None,
        max_bytes_of: Mapping[str | None, int] | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_key_bytes = max_key_bytes or max_bytes
        self.on_full = on_full
        self._max_bytes_of = dict(max_bytes_of or {})
        self.held_bytes = 0
        self._held_by_key: dict[str | None, int] = {}

    def lease(self, key: str | None = None) -> "Lease":
        """One request's part of the buffer; a context manager that gives it back. key: the name of its API key."""
        return Lease(self, key)

    def take(self, length: int, key: str | None) -> None:
        """Raises QueueFullError where there is no room for so many bytes more."""
        held_by_key = self._held_by_key.get(key, 0)
        if key is not None and held_by_key + length > self._max_bytes_of.get(key, self.max_key_bytes):
            self.on_full("key_buffer_share")
            raise QueueFullError("Requests with this key hold as many bytes as one key may; try again later.")
        if self.held_bytes + length > self.max_bytes:
            self.on_full("buffer_full")
            raise QueueFullError("The service is receiving as many bytes as it can hold; try again later.")
        self.held_bytes += length
        self._held_by_key[key] = held_by_key + length

    def give_back(self, length: int, key: str | None) -> None:
        """The reverse of `take`."""
        self.held_bytes -= length
        self._held_by_key[key] -= length
        if not self._held_by_key[key]:
            del self._held_by_key[key]


class Lease:
    """What one request holds of the buffer."""

    def __init__(self, buffer: Buffer, key: str | None) -> None:
        self._buffer = buffer
        self._key = key
        self._bytes = 0

    @property
    def key(self) -> str | None:
        """The name of the API key that it counts for."""
        return self._key

    def add(self, length: int) -> None:
        """Take so many bytes more. Raises QueueFullError where the buffer has no room for them."""
        if length:
            self._buffer.take(length, self._key)
            self._bytes += length

    def shrink_to(self, length: int) -> None:
        """Give back what is more than so many bytes."""
        if length < self._bytes:
            self._buffer.give_back(self._bytes - length, self._key)
            self._bytes = length

    def pass_to(self, key: str) -> None:
        """Let another key hold all of it. Raises QueueFullError, and holds nothing, where that one has no room."""
        held = self._bytes
        self.shrink_to(0)
        self._key = key
        self.add(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shrink_to(0)


def content_length(header: str) -> int:
    """The number in a Content-Length header; 0 where it has none."""
    return int(header[:20]) if header.isascii() and header.isdigit() else 0


async def read_body(request: Request, max_bytes: int, lease: Lease) -> bytes:
    """The whole body. Raises BodyTooLargeError as soon as it is known to be too large, or QueueFullError."""
    too_large = BodyTooLargeError(f"The body is larger than {max_bytes} bytes.")
    if content_length(request.headers.get("content-length", "")) > max_bytes:
        raise too_large
    body = io.BytesIO()  # its bytes are not copied once more at the end
    async for chunk in request.stream():
        lease.add(len(chunk))
        if body.tell() + len(chunk) > max_bytes:
            raise too_large
        body.write(chunk)
    return body.getvalue()
