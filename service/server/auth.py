"""API keys: with none configured the service is open; else every route but the probes and the pages requires
`Authorization: Bearer KEY`.

The pages are open, so that a browser can show where a key is entered; what they load holds nothing about images or the
model.

A key made by `dynrefer key` is 256 random bits, so that its plain SHA-256 digest can be kept in a file: it cannot be
found by guessing, and no slow hash is needed on every request.
"""

import codecs
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dynrefer.service.api.problems import problem_response
from dynrefer.service.errors import UnauthorizedError
from dynrefer.service.settings import Settings, SettingsError

PROBES = frozenset({"/livez", "/readyz"})
PAGES = frozenset({"/", "/docs", "/redoc", "/openapi.json"})
ASSETS = "/static/"  # what the pages load
KEY_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})\s+sha256:(?P<digest>[0-9a-f]{64})")


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in PROBES or path in PAGES or path.startswith(ASSETS)


class ApiKeyMiddleware:
    """ASGI middleware. keys: name -> digest; every one is compared, in constant time.

    Sets `scope["state"]["key"]`: the name of the key that was given, or None where none is configured.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, bytes]) -> None:
        self.app = app
        self._keys = dict(keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] == "http" and self._keys and not is_open(scope["path"]):
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            name = self._name_of(key.strip()) if scheme.lower() == "bearer" else None
            if name is None:
                error = UnauthorizedError("Send a valid key as 'Authorization: Bearer KEY'.")
                response = problem_response(error, scope["state"]["request_id"])
                await response(scope, receive, send)
                return
            scope["state"]["key"] = name
        await self.app(scope, receive, send)

    def _name_of(self, key: str) -> str | None:
        digest = _digest(key)
        # A list, not a generator: stopping at the first match would reveal, by its time, which key it is.
        names = [name for name, known in self._keys.items() if hmac.compare_digest(digest, known)]
        return names[0] if names else None


def configured_keys(settings: Settings) -> dict[str, bytes]:
    """Name -> digest of every key in the settings and in their file. Raises SettingsError for a file that cannot be
    read as one of keys; its lines are never shown, because they may hold a key by mistake."""
    keys = {f"setting-{number}": _digest(key.get_secret_value()) for number, key in enumerate(settings.api_keys, 1)}
    if settings.api_keys_file is not None:
        from_file = _read_keys(settings.api_keys_file)
        if not from_file:
            raise SettingsError(f"api_keys_file {settings.api_keys_file} holds no key; `dynrefer key` makes one.")
        keys |= from_file
    return keys


def _read_keys(path: Path) -> dict[str, bytes]:
    try:
        # Windows' editors begin a text with a byte order mark.
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"api_keys_file {path} cannot be read.") from None
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = KEY_LINE.fullmatch(line.strip())
        if not found or found["name"] in keys:
            raise SettingsError(f"api_keys_file {path}, line {number}: a line is a new NAME, a space and sha256:HEX.")
        keys[found["name"]] = bytes.fromhex(found["digest"])
    return keys


def new_key(name: str) -> tuple[str, str]:
    """(the key, to be shown to its holder alone; its line for the keys file)."""
    key = secrets.token_urlsafe(32)
    return key, f"{name} sha256:{_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8")).digest()
