"""What the HTTP library is told, the same for both clients: where the service is, who asks, and for how long."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from dynrefer.service.client.exchanges import Send

MOST_CONNECTIONS = 100  # of a client, at the same time; what is beyond waits, as a part of its call's time
_CONNECT_S = 10.0  # at most, of the time that a call has: a host that is down answers nothing
_USER_AGENT = "dynrefer-client"


def connection_settings(
    url: str, key: str | None, verify: bool | ssl.SSLContext, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """Arguments of `httpx2.Client` and `httpx2.AsyncClient`. Raises ValueError for what is no address or key."""
    given = dict(headers or {})
    if key is not None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("key is not a key as `dynrefer key` makes them: printable ASCII without blanks.")
        given["Authorization"] = f"Bearer {key}"
    return {
        "base_url": checked_url(url),
        "headers": {"User-Agent": _USER_AGENT, "Accept": "application/json", **given},
        "verify": verify,
        "follow_redirects": False,  # a POST would become a GET
        "limits": httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS),
    }


def checked_url(url: str) -> str:
    """The address, if it is one. A path is a prefix that a proxy puts before the service."""
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r:.200} is not the address of a service; write one such as http://127.0.0.1:8000.")
    if parsed.query or parsed.fragment:
        raise ValueError(f"{url!r:.200} is not the address of a service: leave out what stands behind '?' or '#'.")
    return url


def socket_path(unix_socket: str | Path | None) -> str | None:
    """Of a service that listens on a Unix socket."""
    return None if unix_socket is None else str(unix_socket)


def checked_timeout(timeout: float) -> float:
    """Seconds. Every call has an end: there is no None."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise ValueError(f"timeout is {timeout!r:.40}; it is a number of seconds above 0.")
    return float(timeout)


def request_arguments(send: Send) -> dict[str, Any]:
    """Arguments of `stream` for one try."""
    body = send.outgoing.body
    return {
        "method": send.outgoing.method,
        "url": send.outgoing.path,
        **body,
        "headers": {**body.get("headers", {}), **send.headers},
        "timeout": httpx2.Timeout(send.timeout_s, connect=min(send.timeout_s, _CONNECT_S)),
    }
