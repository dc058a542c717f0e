"""Questions answered by another service, over an OpenAI-compatible interface, whose address the settings alone name.

Its key is in one header and nowhere else. A redirect is refused, for it would take the key and the client's image to
another place. A connection that is not made is tried once more; where calls go on failing, a breaker lets none through
for a while, so that nobody waits for a service that is not there. Every wait ends by the request's deadline, and
closing an answer closes its connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpcore2

from dynrefer.model import Spoken, WholeImageSpec
from dynrefer.service.conversing.chat import ChatAnswer, chat_request, reply_of
from dynrefer.service.errors import DeadlineExceeded, UnavailableError, UpstreamError
from dynrefer.service.inputs.url_fetch import FAILURES
from dynrefer.service.scale.circuit_breaker import CircuitBreaker
from dynrefer.service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from dynrefer.model import Conversation, ConverseTurn
    from dynrefer.service.context import RequestContext

logger = logging.getLogger(__name__)

PATH = "/chat/completions"
MAX_CALLS = 32  # at the same time; more wait
CONNECT_S = 5.0
SILENCE_S = 120.0  # without a byte, after which a service has failed, whatever the deadline
LONGEST_PAUSE_S = 60.0  # that a client is told to wait
MAX_KEY_CHARS = 4096
EVENTS = "text/event-stream"
NOT_THERE = "The service that answers questions cannot be reached."
BUSY = "The service that answers questions is at its limit."
BROKEN = "The connection to the service that answers questions broke."
LATE = "The deadline passed while another service was answering."
REDIRECTS = "The service that answers questions redirects, which is not followed."
ENCODED = "The service that answers questions sent a compressed answer."


class Upstream:
    """An `Answering` (`engine/conversing.py`). One for all requests, on one event loop. url: without its last part.
    longest: most pixels of a longer side of an image that it is sent. backend: connects, in tests."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        longest: int = 1024,
        backend: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self.spec = WholeImageSpec(longest)
        self._url, self._model, self._key = url + PATH, model, key
        self._backend = backend
        self._tls = ssl.create_default_context() if url.startswith("https:") else None
        self._room = asyncio.Semaphore(MAX_CALLS)
        self._breaker = CircuitBreaker()
        if self._breaker.may_probe():
            self._breaker.succeeded()  # it is there until a call shows that it is not

    async def pieces(
        self, turn: ConverseTurn, conversation: Conversation, context: RequestContext
    ) -> AsyncGenerator[Spoken, None]:
        """See `Answering`. Raises `UpstreamError`, `UnavailableError` and `DeadlineExceeded`."""
        body = await asyncio.to_thread(chat_request, turn, conversation, self._model)
        async with AsyncExitStack() as stack:
            stack.enter_context(_told_as_ours())
            async with _until(context):
                await stack.enter_async_context(self._room)
            call = stack.enter_context(_Call(self._breaker))
            async with _until(context):
                response = await stack.enter_async_context(self._posted(body, context))
            call.check(response)
            answer, document = ChatAnswer(), not _is(response, b"content-type", EVENTS)
            read = answer.feed_document if document else answer.feed
            chunks = response.aiter_stream()
            while not answer.done:
                async with _until(context):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    answer.end(document=document)
                    break
                before = answer.pieces
                read(chunk)
                if answer.pieces > before and not answer.done:
                    yield _spoken(answer, turn, conversation)
            yield _spoken(answer, turn, conversation)

    @asynccontextmanager
    async def _posted(self, body: bytes, context: RequestContext) -> AsyncIterator[httpcore2.Response]:
        """The response, once its head is there. Every call has a connection of its own."""
        headers = [
            ("Content-Type", "application/json"),
            ("Accept", EVENTS),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "dynrefer"),
            ("X-Request-Id", context.id),
            *([("Authorization", f"Bearer {self._key}")] if self._key is not None else []),
        ]
        times = {"connect": CONNECT_S, "read": SILENCE_S, "write": SILENCE_S, "pool": SILENCE_S}
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=self._tls, max_keepalive_connections=0, retries=1, network_backend=self._backend
            ) as pool,
            pool.stream("POST", self._url, headers=headers, content=body, extensions={"timeout": times}) as response,
        ):
            yield response


class _Call:
    """What one call tells the breaker. Raises `UnavailableError` where none is let through."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._probes = False

    def __enter__(self) -> _Call:
        if not self._breaker.closed:
            if not self._breaker.may_probe():
                raise UnavailableError(NOT_THERE, min(self._breaker.pause_s, LONGEST_PAUSE_S))
            self._probes = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Who leaves, or comes to a deadline, says nothing about the service; but a probe has to have an end.
        if isinstance(error, (*FAILURES, _FailedError)) or self._probes:
            self._probes = False
            if self._breaker.failed():
                logger.warning("the converser at converser_url is left alone for a while: it does not answer")

    def check(self, response: httpcore2.Response) -> None:
        """Raises what a status means that is no success; else it has answered."""
        status = response.status
        if status >= 500 and status != 503:
            raise _FailedError(f"The service that answers questions failed with the status {status}.")
        self._probes = False
        if self._breaker.succeeded():
            logger.info("the converser at converser_url answers again")
        if status in (429, 503):
            raise UnavailableError(BUSY, _retry_after(response))
        if 300 <= status < 400:
            raise UpstreamError(REDIRECTS)
        if status != 200:
            logger.warning("the converser at converser_url refused a request with the status %d", status)
            raise UpstreamError(f"The service that answers questions refused the request with the status {status}.")
        if not _is(response, b"content-encoding", "identity", absent=True):
            raise UpstreamError(ENCODED)


class _FailedError(UpstreamError):
    """It is there, and does not work."""


@contextmanager
def _told_as_ours() -> Iterator[None]:
    """Errors of the network become ours."""
    try:
        yield
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
        raise UnavailableError(NOT_THERE) from None
    except FAILURES:
        raise UpstreamError(BROKEN) from None


@asynccontextmanager
async def _until(context: RequestContext) -> AsyncIterator[None]:
    """A wait that ends by the request's deadline. Raises `DeadlineExceeded`."""
    try:
        async with asyncio.timeout(max(0.0, context.deadline - time.monotonic())):
            yield
    except TimeoutError:
        raise DeadlineExceeded(LATE) from None


def open_upstream(settings: Settings) -> Upstream | None:
    """What the settings name; None where they name nothing. Raises SettingsError for a key that cannot be used."""
    if settings.converser_url is None or settings.converser_url_model is None:
        return None
    key = None if settings.converser_url_key is None else settings.converser_url_key.get_secret_value()
    where = "converser_url_key"
    if settings.converser_url_key_file is not None:
        where = f"converser_url_key_file {str(settings.converser_url_key_file)!r}"
        try:
            key = settings.converser_url_key_file.read_text("ascii").strip()
        except (OSError, UnicodeError):
            raise SettingsError(f"{where} cannot be read as a text of ASCII letters and signs.") from None
    if key is not None and not (
        key.isascii() and key.isprintable() and " " not in key and 0 < len(key) <= MAX_KEY_CHARS
    ):
        raise SettingsError(f"{where} holds no key: a key has letters and signs, and no spaces.")
    return Upstream(settings.converser_url, settings.converser_url_model, key, settings.converser_url_pixels)


def _spoken(answer: ChatAnswer, turn: ConverseTurn, conversation: Conversation) -> Spoken:
    reply = reply_of(answer, turn, conversation)
    return Spoken(reply, (), answer.done, len(reply.content))


def _is(response: httpcore2.Response, name: bytes, value: str, *, absent: bool = False) -> bool:
    """Whether a header has this value, its parameters aside. absent: what counts where it is not there."""
    found = next((each for key, each in response.headers if key.lower() == name), None)
    return absent if found is None else found.decode("latin-1").split(";")[0].strip().lower() == value


def _retry_after(response: httpcore2.Response) -> float:
    """Seconds, as the service says them, within bounds."""
    found = next((each for key, each in response.headers if key.lower() == b"retry-after"), b"1")
    return min(float(found), LONGEST_PAUSE_S) if found.isdigit() else 1.0
