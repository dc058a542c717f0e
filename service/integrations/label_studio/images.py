"""The images of tasks: in the data itself, on the operator's Label Studio, or at a public address.

Label Studio may stand at a private address and speak http: the operator names it in the settings, so it alone is
trusted with its token, and nothing that a request says can lead elsewhere. Redirects are not followed.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import httpcore2

from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.inputs.url_fetch import FAILURES, Fetcher, read_file
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

MAX_FETCHES = 8  # at the same time
MAX_PROJECTS = 1_000  # of all callers, whose tokens are kept
MAX_TOKEN_ANSWER = 65_536  # bytes
USUAL_PORTS = {"http": 80, "https": 443}
MOST_ENCODINGS = 4  # of a path's characters as %XX, one in another


class ImageNotFetched(InvalidRequestError):
    """An image that could not be had; the message says why and what to do."""


class LabelStudio:
    """The operator's Label Studio, which images are fetched from.

    url: where it is, with the path prefix that it may have. token: a personal access token, which is exchanged for
    short-lived ones, or a legacy token; None: those of /setup, each for the project and the API key that brought it.
    """

    def __init__(self, url: str, token: str | None, max_bytes: int, timeout_s: float) -> None:
        self.url = url.rstrip("/") + "/"
        self._parts = urlsplit(self.url)
        self._token = token
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._access: dict[str, str] = {}  # personal access token -> the short-lived one
        self._project_tokens: OrderedDict[tuple[str | None, str], str] = OrderedDict()
        self._room = asyncio.Semaphore(MAX_FETCHES)

    def learn_token(self, caller: str | None, project: str, hostname: str, token: str) -> None:
        """Keep the token that a project's /setup brought, if it is this Label Studio's and the settings have none.

        caller: the name of the API key that it came with, for whose requests alone it is used.
        """
        try:
            here = _origin(urlsplit(hostname)) == _origin(self._parts)
        except ValueError:  # no address at all
            return
        if self._token is None and token and here:
            key = caller, _id_of(project)
            self._project_tokens[key] = token
            self._project_tokens.move_to_end(key)
            while len(self._project_tokens) > MAX_PROJECTS:
                self._project_tokens.popitem(last=False)

    def address_of(self, given: str) -> str | None:
        """The whole address of a path on this Label Studio, or of an address there; None for any other."""
        address = given
        if given.startswith("/") and not given.startswith("//"):
            path = given if given.startswith(self._parts.path) else self._parts.path + given[1:]
            address = f"{self._parts.scheme}://{self._parts.netloc}{path}"
        address = address.replace(" ", "%20")
        return None if self._target_of(address) is None else address

    def _target_of(self, address: str) -> str | None:
        """What is asked for at the operator's origin; None for an address of another, or that leaves the prefix."""
        if not address.isascii() or not address.isprintable() or " " in address or "\\" in address:
            return None
        try:
            parts = urlsplit(address)
            here = _origin(parts) == _origin(self._parts)
        except ValueError:
            return None
        if not here or parts.username is not None or parts.password is not None:
            return None
        if not _is_below(parts.path, self._parts.path):
            return None
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    async def fetch(self, address: str, project: str, lease: Lease) -> bytes:
        """A file. address: of `address_of`. Its bytes count in the lease, whose key says whose token is used.

        Raises ImageNotFetched, BodyTooLargeError, QueueFullError.
        """
        token = self._token or self._project_tokens.get((lease.key, _id_of(project)))
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                return await self._get_authorized(address, token, lease)
        except TimeoutError:
            raise ImageNotFetched(f"Label Studio did not send the image within {self._timeout_s:g} seconds.") from None
        except FAILURES as error:
            logger.warning(
                "Label Studio cannot be reached at %s: %r", self.url, error
            )  # where that is concerns no client
            raise ImageNotFetched("Label Studio cannot be reached; see the setting label_studio_url.") from None

    async def _get_authorized(self, address: str, token: str | None, lease: Lease) -> bytes:
        async with httpcore2.AsyncConnectionPool(max_keepalive_connections=0) as pool:
            status, image = await self._get(pool, address, await self._authorization(pool, token), lease)
            if status == 401 and token is not None and self._access.pop(token, None) is not None:  # it has expired
                status, image = await self._get(pool, address, await self._authorization(pool, token), lease)
        if status == 200:
            return image
        raise ImageNotFetched(_reason(status, token is not None))

    async def _get(
        self, pool: httpcore2.AsyncConnectionPool, address: str, authorization: str | None, lease: Lease
    ) -> tuple[int, bytes]:
        """The status, and the file where that is 200."""
        if (target := self._target_of(address)) is None:  # looked at here, where the token goes, whoever asks
            raise ImageNotFetched(f"The image {printable(address)} is not on Label Studio.")
        headers = [("Host", self._parts.netloc), ("Accept-Encoding", "identity"), ("User-Agent", "dynrefer")]
        if authorization:
            headers.append(("Authorization", authorization))
        async with pool.stream("GET", self._url(target), headers=headers, extensions=self._limits()) as response:
            if response.status != 200:
                return response.status, b""
            too_large = f"The image is larger than {self._max_bytes} bytes, the setting max_body_bytes."
            return 200, await read_file(response, self._max_bytes, lease, too_large)

    async def _authorization(self, pool: httpcore2.AsyncConnectionPool, token: str | None) -> str | None:
        """The header's value. A personal access token has three parts, as every JSON Web Token, and buys one that lives
        for minutes; a legacy token is a word."""
        if token is None or token.count(".") != 2:
            return None if token is None else f"Token {token}"
        if token not in self._access:
            self._access[token] = await self._bought(pool, token)
        return f"Bearer {self._access[token]}"

    async def _bought(self, pool: httpcore2.AsyncConnectionPool, token: str) -> str:
        body = json.dumps({"refresh": token}).encode()
        headers = [
            ("Host", self._parts.netloc),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Accept-Encoding", "identity"),
        ]
        url = self._url(f"{self._parts.path}api/token/refresh/")
        async with pool.stream("POST", url, headers=headers, content=body, extensions=self._limits()) as response:
            answer = b""
            async for chunk in response.aiter_stream():
                answer += chunk
                if len(answer) > MAX_TOKEN_ANSWER:
                    break
        try:
            document: Any = json.loads(answer)
            access = document["access"] if response.status == 200 else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str) or not access.isascii() or not access.isprintable():
            raise ImageNotFetched(_reason(401, True))
        return access

    def _url(self, target: str) -> httpcore2.URL:
        """Of the operator's origin, whatever the target says."""
        scheme, host, port = _origin(self._parts)
        return httpcore2.URL(scheme=scheme, host=host or "", port=port, target=target)

    def _limits(self) -> dict[str, Any]:
        return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)}


class Images:
    """Whatever a task names as its image -> the file."""

    def __init__(self, settings: Settings) -> None:
        token = settings.label_studio_token.get_secret_value() if settings.label_studio_token else None
        limits = settings.max_body_bytes, settings.image_url_timeout_s
        self.label_studio = (
            LabelStudio(settings.label_studio_url, token, *limits) if settings.label_studio_url else None
        )

    async def fetch(self, given: str, project: str, fetcher: Fetcher | None, lease: Lease) -> bytes:
        """given: a `data:` URI, a path on Label Studio or an address. fetcher: the guard, of public addresses.

        Raises ImageNotFetched, BodyTooLargeError, QueueFullError.
        """
        if given[:5].lower() == "data:":
            lease.add(len(given) * 3 // 4)
            return _decoded(given)
        if self.label_studio is not None and (address := self.label_studio.address_of(given)) is not None:
            return await self.label_studio.fetch(address, project, lease)
        if given.startswith("/"):
            raise ImageNotFetched(
                f"The image {printable(given)} is on Label Studio, and this service was not told where that is: set "
                "DYNREFER_LABEL_STUDIO_URL and DYNREFER_LABEL_STUDIO_TOKEN."
            )
        if fetcher is None or not given.lower().startswith("https://"):
            raise ImageNotFetched(
                f"The image {printable(given)} is not fetched: this service fetches from the Label Studio of its "
                "setting label_studio_url, and https addresses of the hosts of image_url_hosts."
            )
        try:
            return await fetcher.fetch(given, lease)
        except BodyTooLargeError:
            raise
        except InvalidRequestError as error:
            raise ImageNotFetched(f"{printable(given)}: {error.detail}") from None


def _decoded(uri: str) -> bytes:
    try:
        return decode_base64(uri.encode("ascii", "replace"))
    except Base64Error as error:
        raise ImageNotFetched(f"The image in the task's data is not standard Base64: the text {error}.") from None


def _reason(status: int, with_token: bool) -> str:
    if status in (401, 403) and not with_token:
        return "Label Studio wants a token for the image; set DYNREFER_LABEL_STUDIO_TOKEN."
    if status in (401, 403):
        return (
            "Label Studio does not accept the token, or its user may not see the image; set "
            "DYNREFER_LABEL_STUDIO_TOKEN to a personal access token of a member of the project (Account & Settings)."
        )
    return f"Label Studio answered with status {status} where the image should be."


def _id_of(project: str) -> str:
    """A project's number. Some calls name it by that alone, others put the time at which it was made behind it."""
    return project.split(".")[0]


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or USUAL_PORTS.get(parts.scheme)


def _is_below(path: str, prefix: str) -> bool:
    """Whether a path stays below a prefix, which ends with "/", however servers on the way read it."""
    for _ in range(MOST_ENCODINGS):
        if not path.startswith(prefix) or "\\" in path or ".." in path.split("/"):
            return False
        if (decoded := unquote(path)) == path:
            return True
        path = decoded
    return False
