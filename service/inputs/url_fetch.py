"""Image URLs, guarded against server-side request forgery (SSRF). Off unless the settings name hosts; then only https
URLs of these hosts are fetched, and only from addresses on the public internet.

A name is resolved once; every address that it has is checked, and the connection goes to the checked address, so that
a second look-up cannot lead elsewhere (DNS rebinding). A redirect is a new URL and is checked like the first. Bytes
and time are limited.
"""

import asyncio
import io
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore2

from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError
from dynrefer.service.inputs.bodies import Lease, content_length
from dynrefer.service.inputs.public_addresses import is_public

POINTER = "/image/url"
MAX_REDIRECTS = 3
MAX_FETCHES = 8  # at the same time
REDIRECTS = (301, 302, 303, 307, 308)

FAILURES = (
    OSError,  # also of the resolver and of TLS
    UnicodeError,
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)

# (host, port) -> addresses; (address, port, timeout in seconds) -> stream
Resolve = Callable[[str, int], Awaitable[Iterable[str]]]
Dial = Callable[[str, int, float | None], Awaitable[httpcore2.AsyncNetworkStream]]


class _ForbiddenError(Exception):
    """A host with an address that is not on the public internet."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


async def dial(address: str, port: int, timeout_s: float | None) -> httpcore2.AsyncNetworkStream:
    """A TCP connection to an address. Raises httpcore2's errors."""
    return await httpcore2.AnyIOBackend().connect_tcp(address, port, timeout=timeout_s)


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, resolve: Resolve, dial: Dial) -> None:
        self._resolve, self._dial = resolve, dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises _ForbiddenError where any address of the host is not public."""
        addresses = list(await self._resolve(host, port))
        if not addresses or not all(map(is_public, addresses)):
            raise _ForbiddenError
        return await self._dial(addresses[0], port, timeout)


class Fetcher:
    """Fetches images. hosts: those that a URL may name. max_bytes, timeout_s: of one image, redirects included."""

    def __init__(
        self,
        hosts: Iterable[str],
        max_bytes: int,
        timeout_s: float,
        resolve: Resolve = resolve,
        dial: Dial = dial,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = frozenset(hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._backend = _CheckedBackend(resolve, dial)
        self._ssl_context = ssl_context
        self._room = asyncio.Semaphore(MAX_FETCHES)

    async def fetch(self, url: str, lease: Lease) -> bytes:
        """The file at a URL. Its bytes count in the lease, as those of a body do.

        Raises InvalidRequestError at /image/url, BodyTooLargeError, QueueFullError.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                return await self._follow(url, lease)
        except TimeoutError:
            raise _rejected(f"The image could not be fetched within {self._timeout_s:g} seconds.") from None
        except _ForbiddenError:
            raise _rejected("The host has an address that is not on the public internet.") from None
        except FAILURES:
            raise _rejected("The image could not be fetched from this URL.") from None

    async def _follow(self, url: str, lease: Lease) -> bytes:
        # A pool per image: clients share no connection.
        async with httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context, network_backend=self._backend, max_keepalive_connections=0
        ) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                found, url = await self._get(pool, self._checked(url), lease)
                if found is not None:
                    return found
        raise _rejected(f"The URL redirects more than {MAX_REDIRECTS} times.")

    async def _get(
        self, pool: httpcore2.AsyncConnectionPool, parts: SplitResult, lease: Lease
    ) -> tuple[bytes | None, str]:
        """(the body, "") or (None, the URL of a redirect)."""
        headers = [
            ("Host", parts.netloc),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "dynrefer"),
        ]
        limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)}
        async with pool.stream("GET", parts.geturl(), headers=headers, extensions=limits) as response:
            received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in REDIRECTS and "location" in received:
                return None, urljoin(parts.geturl(), received["location"])
            if response.status != 200:
                raise _rejected(f"The URL's server answered with status {response.status}.")
            if received.get("content-encoding", "identity") != "identity":
                raise _rejected("The URL's server sent a compressed body.")
            too_large = f"The image at the URL is larger than {self._max_bytes} bytes."
            return await read_file(response, self._max_bytes, lease, too_large), ""

    def _checked(self, url: str) -> SplitResult:
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise _rejected("The URL contains characters that are not allowed in URLs; encode them as %XX.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _rejected("This is not a URL.") from None
        if parts.scheme != "https":
            raise _rejected("Only https URLs are fetched.")
        if parts.username is not None or parts.password is not None or port not in (None, 443):
            raise _rejected("A URL with a user or another port than 443 is not fetched.")
        if parts.hostname not in self._hosts:
            raise _rejected("This server does not fetch from this host.")
        return parts._replace(fragment="")


async def read_file(response: httpcore2.Response, max_bytes: int, lease: Lease, too_large: str) -> bytes:
    """A response's body; its bytes count in the lease. Raises BodyTooLargeError with the sentence `too_large`."""
    lengths = [value for name, value in response.headers if name.lower() == b"content-length"]
    declared = content_length(lengths[-1].decode("latin-1") if lengths else "")
    if declared > max_bytes:
        raise BodyTooLargeError(too_large)
    # At once, where it is known: of many fetches side by side a few succeed, and not each a little.
    lease.add(declared)
    body = io.BytesIO()
    async for chunk in response.aiter_stream():
        lease.add(max(0, body.tell() + len(chunk) - max(declared, body.tell())))
        if body.tell() + len(chunk) > max_bytes:
            raise BodyTooLargeError(too_large)
        body.write(chunk)
    return body.getvalue()


def _rejected(detail: str) -> InvalidRequestError:
    return InvalidRequestError.at(POINTER, detail)
