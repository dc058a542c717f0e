"""Keys: none configured means open; else every route but the probes wants `Authorization: Bearer KEY`."""

import hashlib
import hmac
from collections.abc import Iterable

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import UnauthorizedError, problem_response

OPEN_PATHS = frozenset({"/livez", "/readyz"})


class KeyGuard:
    """ASGI middleware. Only digests are kept; every one is compared, each in constant time."""

    def __init__(self, app: ASGIApp, keys: Iterable[SecretStr]) -> None:
        self.app = app
        self._digests = tuple(_digest(key.get_secret_value()) for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] == "http" and self._digests and scope["path"] not in OPEN_PATHS:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._knows(key.strip()):
                error = UnauthorizedError("Send a valid key as 'Authorization: Bearer KEY'.")
                response = problem_response(error, scope["state"]["request_id"])
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _knows(self, key: str) -> bool:
        digest = _digest(key)
        # A list, not a generator: stopping at the first match would tell how far it came.
        return any([hmac.compare_digest(digest, known) for known in self._digests])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8")).digest()
