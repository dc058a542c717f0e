"""The client for asyncio: `Client` with awaited methods."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

import httpx2

from dynrefer.model import Findings, NamedVocabulary
from dynrefer.service.client.answer_streams import AsyncAnswerStream, is_event_stream, no_stream
from dynrefer.service.client.client import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    RELOAD_TIMEOUT_S,
)
from dynrefer.service.client.connections import (
    checked_timeout,
    connection_settings,
    request_arguments,
    socket_path,
)
from dynrefer.service.client.conversation_fields import AskOptions, GivenRegions, Question, ask_request
from dynrefer.service.client.conversations import ServedReply, served_reply
from dynrefer.service.client.errors import NotReady
from dynrefer.service.client.exchanges import Failure, Pause, Reply, Send, exchange, raise_failure, read
from dynrefer.service.client.many import GivenImage, Outcome, describe_in_tasks
from dynrefer.service.client.previews import answer_about_nothing, describe_reader, detect_reader
from dynrefer.service.client.records import (
    Described,
    ReloadStatus,
    Reported,
    ServedModel,
    VocabularySummary,
    named_vocabulary,
    reload_status,
    served_models,
    vocabulary_summaries,
)
from dynrefer.service.client.request_fields import (
    RELOAD,
    DescribeOptions,
    DetectOptions,
    GivenName,
    GivenRegion,
    GivenTask,
    OnRegionError,
    Outgoing,
    describe_request,
    detect_request,
    reload_request,
    vocabulary_request,
)
from dynrefer.service.client.retries import NO_RETRIES, Retries

if TYPE_CHECKING:
    from dynrefer.model import ImageSource

Result = TypeVar("Result")


class AsyncClient:
    """Asks a service from asyncio; arguments, records and errors are those of `Client`.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            regions = await client.describe("dog.jpg", [(64, 256, 384, 384)], "caption")

    Files are read and pixels packed in threads. A call that is cancelled closes its connection, and the service stops
    working for it. It belongs to the event loop in which it is used first.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: Retries = DEFAULT_RETRIES,
        verify: bool | ssl.SSLContext = True,
        unix_socket: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """As of `Client`."""
        self._timeout_s, self._retries = checked_timeout(timeout), retries
        settings = connection_settings(url, key, verify, headers)
        if (path := socket_path(unix_socket)) is not None:
            settings["transport"] = httpx2.AsyncHTTPTransport(uds=path)
        self._http, self._url = httpx2.AsyncClient(**settings), url

    def __repr__(self) -> str:
        """Without the key."""
        return f"{type(self).__name__}({self._url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls after it raise RuntimeError."""
        await self._http.aclose()

    @overload
    async def describe(
        self,
        image: "ImageSource",
        boxes: Iterable[GivenRegion] | None = None,
        task: GivenTask = None,
        *,
        on_region_error: Literal["fail"] = "fail",
        **options: Unpack[DescribeOptions],
    ) -> Described: ...

    @overload
    async def describe(
        self,
        image: "ImageSource",
        boxes: Iterable[GivenRegion] | None = None,
        task: GivenTask = None,
        *,
        on_region_error: Literal["report"],
        **options: Unpack[DescribeOptions],
    ) -> Reported: ...

    async def describe(
        self,
        image: "ImageSource",
        boxes: Iterable[GivenRegion] | None = None,
        task: GivenTask = None,
        *,
        on_region_error: OnRegionError = "fail",
        **options: Unpack[DescribeOptions],
    ) -> Described | Reported:
        """As `Client.describe`."""
        return await self._described(image, boxes, task, on_region_error, options)

    async def describe_many(
        self,
        images: Iterable[GivenImage],
        task: GivenTask = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: bool | None = None,
        on_region_error: OnRegionError = "fail",
        **options: Unpack[DescribeOptions],
    ) -> list[Outcome]:
        """As `Client.describe_many`."""

        async def describe(image: Any, boxes: Any) -> Any:
            return await self._described(image, boxes, task, on_region_error, options, thrifty=True)

        return await describe_in_tasks(describe, images, concurrency, progress)

    async def detect(
        self,
        image: "ImageSource",
        names: Iterable[GivenName] | GivenName = (),
        phrase: str | None = None,
        *,
        describe: GivenTask | Mapping[str, Any] = None,
        **options: Unpack[DetectOptions],
    ) -> Findings:
        """As `Client.detect`."""
        outgoing = await asyncio.to_thread(detect_request, image, names, phrase, describe, options)
        return await self.call(outgoing, detect_reader(image, options))

    async def ask(
        self,
        image: "ImageSource",
        question: Question,
        regions: GivenRegions | None = None,
        **options: Unpack[AskOptions],
    ) -> ServedReply:
        """As `Client.ask`."""
        outgoing = await asyncio.to_thread(ask_request, image, question, regions, options)
        return await self.call(outgoing, served_reply)

    def ask_stream(
        self,
        image: "ImageSource",
        question: Question,
        regions: GivenRegions | None = None,
        **options: Unpack[AskOptions],
    ) -> AsyncAnswerStream:
        """As `Client.ask_stream`; not awaited, but read by `async for`. What is wrong with the arguments is raised
        there too."""

        def request() -> Outgoing:
            return ask_request(image, question, regions, options, stream=True)

        return AsyncAnswerStream(self._streamed(request))

    async def models(self) -> tuple[ServedModel, ...]:
        """As `Client.models`."""
        return await self.call(Outgoing("/v1/models"), served_models)

    async def model(self) -> ServedModel:
        """The model that answers."""
        return (await self.models())[0]

    async def vocabularies(self) -> tuple[VocabularySummary, ...]:
        """The vocabularies that requests may name."""
        return await self.call(Outgoing("/v1/vocabularies"), vocabulary_summaries)

    async def vocabulary(self, name: str) -> NamedVocabulary:
        """A vocabulary with all its words. Raises `NotFound`."""
        return await self.call(vocabulary_request(name), named_vocabulary)

    async def reload_model(
        self,
        model: str | Path | None = None,
        *,
        previous: bool = False,
        unload_first: bool = False,
        timeout: float = RELOAD_TIMEOUT_S,
    ) -> ReloadStatus:
        """As `Client.reload_model`."""
        given = None if model is None else str(model)
        outgoing = reload_request(given, previous, unload_first, timeout)
        # Sent once: unlike all other requests it changes something.
        return read(await self._reply(outgoing, NO_RETRIES), reload_status)

    async def reload_status(self) -> ReloadStatus:
        """Which model serves, and what is being loaded. Needs the key of an administrator."""
        return await self.call(Outgoing(RELOAD), reload_status)

    async def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        try:
            await self._reply(Outgoing("/readyz"), NO_RETRIES)
        except NotReady:
            return False
        return True

    async def call(self, outgoing: Outgoing, make: Callable[[Any], Result]) -> Result:
        """Send a request, and make something of its answer's JSON."""
        return await asyncio.to_thread(read, await self._reply(outgoing, self._retries), make)

    async def _described(
        self,
        image: Any,
        boxes: Any,
        task: Any,
        on_error: OnRegionError,
        options: DescribeOptions,
        *,
        thrifty: bool = False,
    ) -> Described | Reported:
        """thrifty: whether the answer remembers little of its image, as it is one of many."""
        outgoing = await asyncio.to_thread(describe_request, image, boxes, task, on_error, options)
        if not outgoing.has_regions:
            return answer_about_nothing(on_error)
        return await self.call(outgoing, describe_reader(image, outgoing, on_error, options, thrifty=thrifty))

    async def _streamed(self, request: Callable[[], Outgoing]) -> AsyncGenerator[bytes]:
        """The bytes of an answer as they come. request: what makes the request."""
        outgoing = await asyncio.to_thread(request)
        timeout_s = self._timeout_s if outgoing.timeout_s is None else checked_timeout(outgoing.timeout_s)
        deadline, streams = time.monotonic() + timeout_s, list[httpx2.Response]()
        async with AsyncExitStack() as stack:

            async def opened(send: Send) -> Reply | Failure:
                return await self._sent(send, stack, streams)

            await self._reply(outgoing, self._retries, opened)
            if not streams:
                raise no_stream()
            parts = streams[0].aiter_bytes()
            while True:
                try:
                    # Not around the `yield`: whoever reads may take their time.
                    async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                        part = await anext(parts)
                except StopAsyncIteration:
                    return
                except httpx2.RequestError as error:
                    raise_failure(Failure(error, began=True), timeout_s)
                except TimeoutError:
                    raise_failure(self._too_slow(outgoing, began=True), timeout_s)
                yield part

    async def _reply(
        self, outgoing: Outgoing, retries: Retries, sent: Callable[[Send], Awaitable[Reply | Failure]] | None = None
    ) -> Reply:
        timeout_s = self._timeout_s if outgoing.timeout_s is None else checked_timeout(outgoing.timeout_s)
        steps = exchange(outgoing, timeout_s, retries)
        step = next(steps)
        while True:
            outcome = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                outcome = await (sent or self._whole)(step)
            try:
                step = steps.send(outcome)
            except StopIteration as ended:
                reply: Reply = ended.value
                return reply

    async def _whole(self, send: Send) -> Reply | Failure:
        async with AsyncExitStack() as stack:
            return await self._sent(send, stack)

    async def _sent(
        self, send: Send, stack: AsyncExitStack, streams: list[httpx2.Response] | None = None
    ) -> Reply | Failure:
        """stack: closes the answer. streams: where one that is a stream of events is put, unread; None: it is read."""
        began = False
        try:
            async with asyncio.timeout(send.timeout_s):  # the library's own limit is of the time between two parts
                response = await stack.enter_async_context(self._http.stream(**request_arguments(send)))
                began = True
                if streams is not None and is_event_stream(response):
                    streams.append(response)
                    return Reply(response.status_code, response.headers, b"")
                return Reply(response.status_code, response.headers, await response.aread())
        except httpx2.RequestError as error:
            return Failure(error, began)
        except TimeoutError:
            return self._too_slow(send.outgoing, began)

    def _too_slow(self, outgoing: Outgoing, began: bool) -> Failure:
        url = self._http.base_url.join(outgoing.path)
        request = httpx2.Request(outgoing.method, url)
        return Failure(httpx2.ReadTimeout("the answer came too slowly", request=request), began)
