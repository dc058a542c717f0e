"""API keys: with none configured the service is open; else every route but the probes and the pages requires
`Authorization: Bearer KEY`, or a key as the password of `Authorization: Basic`, whatever the name: some programs know
no other. An integration may take it from another header as well (`api/surfaces.py`), and, for platforms that pass no
header on, from the body: such a request goes on as that of `UNIDENTIFIED` until `api/posting.py` has read the key, and
nothing but a refusal is answered before. Where the settings leave it to a platform to know who calls, its integration
requires none.

The keys of administrators do what API keys do, and open the routes of `ADMIN_PATHS` besides, which always require one.

The pages are open, so that a browser can show where a key is entered; what they load holds nothing about images or the
model.

A key made by `dynrefer key` is 256 random bits, so that its plain SHA-256 digest can be kept in a file: it cannot be
found by guessing, and no slow hash is needed on every request.
"""

import base64
import binascii
import codecs
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynrefer.service.api.surfaces import Surface, refusal
from dynrefer.service.errors import UnauthorizedError
from dynrefer.service.inputs.forms import JSON, media_type
from dynrefer.service.settings import Settings, SettingsError

PROBES = frozenset({"/livez", "/readyz", "/health"})
PAGES = frozenset({"/", "/docs", "/redoc", "/openapi.json"})
ASSETS = "/static/"  # what the pages load
RELOAD_PATH = "/v1/models/reload"
ADMIN_PATHS = frozenset({RELOAD_PATH})
UNIDENTIFIED = "(key in the body)"  # the name of the key that is still to be read; no key has it
KEY_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})\s+sha256:(?P<digest>[0-9a-f]{64})")


def is_open(path: str, surface: Surface) -> bool:
    """Whether a path, of that surface, needs no key."""
    return path in PROBES or path in PAGES or path.startswith(ASSETS) or path in surface.open_paths


def key_in(headers: Headers) -> str | None:
    """The key in the header Authorization, None where it holds none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() != "basic":
        return None
    try:
        _, found, password = base64.b64decode(given.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if found else None


class Keys:
    """The keys that the service knows, by their digests."""

    def __init__(self, keys: Mapping[str, bytes], admin_keys: Mapping[str, bytes] | None = None) -> None:
        """keys, admin_keys: name -> digest. Without `keys` none is required but an administrator's."""
        self.required = bool(keys)
        self.admin_names = frozenset(admin_keys or ())
        self._digests = {**keys, **(admin_keys or {})}

    def name_of(self, key: str) -> str | None:
        """The name of a key, None for one that is not known; every one is compared, in constant time."""
        digest = _digest(key)
        # A list, not a generator: stopping at the first match would reveal, by its time, which key it is.
        names = [name for name, known in self._digests.items() if hmac.compare_digest(digest, known)]
        return names[0] if names else None


class ApiKeyMiddleware:
    """ASGI middleware. keyless: names of surfaces that require no key.

    Sets `scope["state"]["key"]`: the name of the key that was given, or None where none is required, or the name of a
    keyless surface in parentheses, or `UNIDENTIFIED`; and "admin": whether it is an administrator's.
    """

    def __init__(self, app: ASGIApp, keys: Keys, keyless: frozenset[str] = frozenset()) -> None:
        self.app = app
        self._keys = keys
        self._keyless = keyless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] != "http" or not self._is_required(scope["path"], scope["state"]["surface"]):
            await self.app(scope, receive, send)
            return
        surface: Surface = scope["state"]["surface"]
        name = self._name_in(Headers(scope=scope), surface)
        if name is None and surface.name in self._keyless:
            name = f"({surface.name})"
        if name is not None:
            scope["state"].update(key=name, admin=name in self._keys.admin_names)
            await self.app(scope, receive, send)
        elif surface.key_members and _may_bring_a_key(scope):
            scope["state"]["key"] = UNIDENTIFIED
            await self.app(scope, receive, _refusing_while_unidentified(scope, receive, send))
        else:
            await refusal(unauthorized(surface), scope["state"])(scope, receive, send)

    def _is_required(self, path: str, surface: Surface) -> bool:
        if path in ADMIN_PATHS and self._keys.admin_names:
            return True
        return self._keys.required and not is_open(path, surface)

    def _name_in(self, headers: Headers, surface: Surface) -> str | None:
        key = key_in(headers) if "authorization" in headers else surface.key_of(headers)
        return None if key is None else self._keys.name_of(key)


def unauthorized(surface: Surface) -> UnauthorizedError:
    """What a client of that surface is told that has sent no key, or an unknown one."""
    more = f", or as '{'.'.join(surface.key_members)}' of a JSON body" if surface.key_members else ""
    return UnauthorizedError(f"Send a valid key as 'Authorization: Bearer KEY'{more}.")


def _may_bring_a_key(scope: Scope) -> bool:
    """Whether the body has to be read before it is known that there is no key: a request that has one in its header is
    judged by that."""
    headers = Headers(scope=scope)
    is_json = media_type(headers.get("content-type", "")) == JSON
    return scope["method"] == "POST" and is_json and "authorization" not in headers


def _refusing_while_unidentified(scope: Scope, receive: Receive, send: Send) -> Send:
    """`send` for a request whose key is still to be read: whoever answers it without having read that, answers 401."""
    refused = False

    async def guarded(message: Message) -> None:
        nonlocal refused
        begins = message["type"] == "http.response.start"
        if begins and message["status"] < 400 and scope["state"]["key"] == UNIDENTIFIED:
            refused = True
            await refusal(unauthorized(scope["state"]["surface"]), scope["state"])(scope, receive, send)
        elif not refused:
            await send(message)

    return guarded


def configured_keys(settings: Settings) -> dict[str, bytes]:
    """Name -> digest of every key in the settings and in their file. Raises SettingsError for a file that cannot be
    read as one of keys; its lines are never shown, because they may hold a key by mistake."""
    return _keys_of("setting", settings.api_keys, "api_keys_file", settings.api_keys_file)


def configured_admin_keys(settings: Settings) -> dict[str, bytes]:
    """The same of administrators. Raises SettingsError also where one has the name, or is the key, of another client:
    whoever holds it would be taken for the other."""
    keys = configured_keys(settings)
    admins = _keys_of("admin", settings.admin_keys, "admin_keys_file", settings.admin_keys_file)
    for name, digest in admins.items():
        if name in keys or digest in keys.values():
            raise SettingsError(f"the administrator's key {name} stands among the API keys too; leave it out of one.")
    return admins


def _keys_of(prefix: str, given: Sequence[SecretStr], setting: str, path: Path | None) -> dict[str, bytes]:
    keys = {f"{prefix}-{number}": _digest(key.get_secret_value()) for number, key in enumerate(given, 1)}
    if path is not None:
        from_file = _read_keys(setting, path)
        if not from_file:
            raise SettingsError(f"{setting} {path} holds no key; `dynrefer key` makes one.")
        keys |= from_file
    return keys


def _read_keys(setting: str, path: Path) -> dict[str, bytes]:
    try:
        # Windows' editors begin a text with a byte order mark.
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{setting} {path} cannot be read.") from None
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = KEY_LINE.fullmatch(line.strip())
        if not found or found["name"] in keys:
            raise SettingsError(f"{setting} {path}, line {number}: a line is a new NAME, a space and sha256:HEX.")
        keys[found["name"]] = bytes.fromhex(found["digest"])
    return keys


def new_key(name: str) -> tuple[str, str]:
    """(the key, to be shown to its holder alone; its line for the keys file)."""
    key = secrets.token_urlsafe(32)
    return key, f"{name} sha256:{_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8")).digest()
