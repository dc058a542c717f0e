"""The client for programs that wait for their answers. `async_client.py` is the same for those that do not."""

import ssl
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

import httpx2

from dynrefer.model import Findings, NamedVocabulary
from dynrefer.service.client.answer_streams import AnswerStream, is_event_stream, no_stream
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
from dynrefer.service.client.many import GivenImage, Outcome, describe_in_threads
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
DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_CONCURRENCY = 8
RELOAD_TIMEOUT_S = 600.0  # that a model may take to be loaded
DEFAULT_RETRIES = Retries()


class Client:
    """Asks a service, with the arguments and the records of `DynRefer`. Connections are kept and used again.

        with Client("http://127.0.0.1:8000", key="...") as client:
            for region in client.describe("dog.jpg", [(64, 256, 384, 384)], "caption"):
                print(region.caption.text)

    Methods may be called from several threads. `errors.py` lists what they raise.
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
        """Nothing is connected yet.

        url: http or https, with the path before /v1 if there is one. key: of a service with keys. timeout: seconds
        that a call may take, all tries together. retries: what is tried again. verify: False for any certificate, or
        `ssl.create_default_context(cafile=...)` for one of your own authority. unix_socket: the path of a socket that
        the service listens on; the url's host is then only a name. headers: sent with every request.
        Raises ValueError for what is no address, key or time.
        """
        self._timeout_s, self._retries = checked_timeout(timeout), retries
        settings = connection_settings(url, key, verify, headers)
        if (path := socket_path(unix_socket)) is not None:
            settings["transport"] = httpx2.HTTPTransport(uds=path)
        self._http, self._url = httpx2.Client(**settings), url

    def __repr__(self) -> str:
        """Without the key."""
        return f"{type(self).__name__}({self._url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls after it raise RuntimeError."""
        self._http.close()

    @overload
    def describe(
        self,
        image: "ImageSource",
        boxes: Iterable[GivenRegion] | None = None,
        task: GivenTask = None,
        *,
        on_region_error: Literal["fail"] = "fail",
        **options: Unpack[DescribeOptions],
    ) -> Described: ...

    @overload
    def describe(
        self,
        image: "ImageSource",
        boxes: Iterable[GivenRegion] | None = None,
        task: GivenTask = None,
        *,
        on_region_error: Literal["report"],
        **options: Unpack[DescribeOptions],
    ) -> Reported: ...

    def describe(
        self,
        image: "ImageSource",
        boxes: Iterable[GivenRegion] | None = None,
        task: GivenTask = None,
        *,
        on_region_error: OnRegionError = "fail",
        **options: Unpack[DescribeOptions],
    ) -> Described | Reported:
        """Describe each region of an image: the list that `DynRefer.describe` returns.

        image: a file's path, its bytes, a Pillow image, (H, W, 3) uint8 RGB, or an https address, where the service may
        fetch it. boxes: xyxy pixels of the upright image; a `Polygon`, `Scribble`, `RegionMask`, `MaskFile`,
        `AlphaMask` or a region as in the service's JSON may stand in the place of a box; None, without `points`: the
        whole image. task: one, several, or None for all with views chosen by the image. on_region_error: with "report"
        a region that cannot be described is a `ProblemError` in its place; else it is raised. options: see
        `DescribeOptions`.
        """
        return self._described(image, boxes, task, on_region_error, options)

    def describe_many(
        self,
        images: Iterable[GivenImage],
        task: GivenTask = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: bool | None = None,
        on_region_error: OnRegionError = "fail",
        **options: Unpack[DescribeOptions],
    ) -> list[Outcome]:
        """Describe many images, several at a time; one outcome per image, in their order.

        images: each an image, whose whole is described, or a tuple of an image and its boxes, as `describe` takes them;
        they are taken from a generator as they are needed. concurrency: requests at the same time. progress: whether a
        bar is drawn on standard error; None: where that is a terminal.
        What `describe` raises for an image is its outcome: a `ClientError`, `QueryError` or OSError. Only what is wrong
        with all of them alike, an unknown option or task, is raised.
        """

        def describe(image: Any, boxes: Any) -> Any:
            return self._described(image, boxes, task, on_region_error, options, thrifty=True)

        return describe_in_threads(describe, images, concurrency, progress)

    def detect(
        self,
        image: "ImageSource",
        names: Iterable[GivenName] | GivenName = (),
        phrase: str | None = None,
        *,
        describe: GivenTask | Mapping[str, Any] = None,
        **options: Unpack[DetectOptions],
    ) -> Findings:
        """Find regions of an image, as `DynRefer.detect` does: of names, of the noun phrases of a sentence, or all.

        describe: tasks by which what is found is described too, or a mapping of `task` and `DescribeOptions`. options:
        see `DetectOptions`.
        """
        return self.call(detect_request(image, names, phrase, describe, options), detect_reader(image, options))

    def ask(
        self,
        image: "ImageSource",
        question: Question,
        regions: GivenRegions | None = None,
        **options: Unpack[AskOptions],
    ) -> ServedReply:
        """Answer a question about an image and its regions, as `DynRefer.ask` does.

        question: a text, or the messages of a conversation so far, the last one the user's; in it `<region:NAME>`
        stands for a region. regions: by name, a box, a prompt as for `describe`, points, or a region as in the
        service's JSON. options: see `AskOptions`.
        """
        return self.call(ask_request(image, question, regions, options), served_reply)

    def ask_stream(
        self,
        image: "ImageSource",
        question: Question,
        regions: GivenRegions | None = None,
        **options: Unpack[AskOptions],
    ) -> AnswerStream:
        """As `ask`, but the answer is read in pieces while it is written."""
        return AnswerStream(self._streamed(ask_request(image, question, regions, options, stream=True)))

    def models(self) -> tuple[ServedModel, ...]:
        """The models that the service has loaded, today one, with the limits of requests."""
        return self.call(Outgoing("/v1/models"), served_models)

    def model(self) -> ServedModel:
        """The model that answers."""
        return self.models()[0]

    def vocabularies(self) -> tuple[VocabularySummary, ...]:
        """The vocabularies that requests may name."""
        return self.call(Outgoing("/v1/vocabularies"), vocabulary_summaries)

    def vocabulary(self, name: str) -> NamedVocabulary:
        """A vocabulary with all its words. Raises `NotFound`."""
        return self.call(vocabulary_request(name), named_vocabulary)

    def reload_model(
        self,
        model: str | Path | None = None,
        *,
        previous: bool = False,
        unload_first: bool = False,
        timeout: float = RELOAD_TIMEOUT_S,
    ) -> ReloadStatus:
        """Let another model serve, and wait until it does and the one before is ended; no request fails by it.

        model: "embedded", the model that the service was started with, or a directory in its models_dir. previous: the
        model that served before, instead. unload_first: end the one that serves first, where there is no memory for
        both. timeout: seconds; after them the service goes on with it. Needs the key of an administrator; raises
        `Forbidden` with another one, `Conflict` while a model is being loaded, `NotFound` where administrators have no
        keys, and `InvalidRequest` where the model cannot be loaded: then the one before goes on.
        """
        given = None if model is None else str(model)
        outgoing = reload_request(given, previous, unload_first, timeout)
        # Sent once: unlike all other requests it changes something.
        return read(self._reply(outgoing, NO_RETRIES), reload_status)

    def reload_status(self) -> ReloadStatus:
        """Which model serves, and what is being loaded. Needs the key of an administrator."""
        return self.call(Outgoing(RELOAD), reload_status)

    def is_ready(self) -> bool:
        """Whether the service can describe regions now. Raises `ConnectionFailed` where there is none."""
        try:
            self._reply(Outgoing("/readyz"), NO_RETRIES)
        except NotReady:
            return False
        return True

    def call(self, outgoing: Outgoing, make: Callable[[Any], Result]) -> Result:
        """Send a request, and make something of its answer's JSON."""
        return read(self._reply(outgoing, self._retries), make)

    def _described(
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
        outgoing = describe_request(image, boxes, task, on_error, options)
        if not outgoing.has_regions:
            return answer_about_nothing(on_error)
        return self.call(outgoing, describe_reader(image, outgoing, on_error, options, thrifty=thrifty))

    def _streamed(self, outgoing: Outgoing) -> Generator[bytes]:
        """The bytes of an answer as they come."""
        timeout_s = self._timeout_s if outgoing.timeout_s is None else checked_timeout(outgoing.timeout_s)
        deadline, streams = time.monotonic() + timeout_s, list[httpx2.Response]()
        with ExitStack() as stack:

            def opened(send: Send) -> Reply | Failure:
                return self._sent(send, stack, streams)

            self._reply(outgoing, self._retries, opened)
            if not streams:
                raise no_stream()
            try:
                yield from _parts(streams[0], deadline)
            except httpx2.RequestError as error:
                raise_failure(Failure(error, began=True), timeout_s)

    def _reply(
        self, outgoing: Outgoing, retries: Retries, sent: Callable[[Send], Reply | Failure] | None = None
    ) -> Reply:
        timeout_s = self._timeout_s if outgoing.timeout_s is None else checked_timeout(outgoing.timeout_s)
        steps = exchange(outgoing, timeout_s, retries)
        step = next(steps)
        while True:
            outcome = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                outcome = (sent or self._whole)(step)
            try:
                step = steps.send(outcome)
            except StopIteration as ended:
                reply: Reply = ended.value
                return reply

    def _whole(self, send: Send) -> Reply | Failure:
        with ExitStack() as stack:
            return self._sent(send, stack)

    def _sent(self, send: Send, stack: ExitStack, streams: list[httpx2.Response] | None = None) -> Reply | Failure:
        """stack: closes the answer. streams: where one that is a stream of events is put, unread; None: it is read."""
        deadline, began = time.monotonic() + send.timeout_s, False
        try:
            response = stack.enter_context(self._http.stream(**request_arguments(send)))
            began = True
            if streams is not None and is_event_stream(response):
                streams.append(response)
                return Reply(response.status_code, response.headers, b"")
            return Reply(response.status_code, response.headers, b"".join(_parts(response, deadline)))
        except httpx2.RequestError as error:
            return Failure(error, began)


def _parts(response: httpx2.Response, deadline: float) -> Generator[bytes]:
    """The body. The library's own limit is of the time between two parts; this one is of the whole."""
    for part in response.iter_bytes():
        yield part
        if time.monotonic() > deadline:
            raise httpx2.ReadTimeout("the answer came too slowly", request=response.request)
