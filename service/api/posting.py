"""The life of a request whose body holds an image, whatever is asked of it: read within its limits, parsed off the
event loop, and worked on until the answer, the deadline or the client's departure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from dynrefer.model import ModelCard, ResolveVocabulary, Translator
from dynrefer.service.api.dependencies import request_context
from dynrefer.service.api.schemas import DescribeFields
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import DeadlineExceeded, InvalidRequestError
from dynrefer.service.inputs.bodies import Buffer, Lease, read_body
from dynrefer.service.inputs.body_keys import key_in_body
from dynrefer.service.inputs.forms import check_headers
from dynrefer.service.inputs.language import wanted_languages
from dynrefer.service.inputs.url_fetch import Fetcher
from dynrefer.service.server.auth import UNIDENTIFIED, unauthorized
from dynrefer.service.settings import Settings

# Parsing a body of this size, whatever it holds, costs less than a hop to a worker thread and back.
INLINE_BYTES = 8_192
# Nobody reads it; it is for the request log and the metrics (nginx's "client closed request").
CLIENT_CLOSED_REQUEST = 499

Result = TypeVar("Result")


class Parsed(Protocol):
    """A parsed request."""

    @property
    def num_bytes(self) -> int:
        """Of all the files in it."""


ParsedT = TypeVar("ParsedT", bound=Parsed)
Read = Callable[[bytes, str, Settings, str, ResolveVocabulary], ParsedT]
# What was parsed, the request's part of the body buffer and its context -> the response.
Answer = Callable[[ParsedT, Lease, RequestContext], Awaitable[Response]]


async def respond(
    request: Request,
    engine: Engine,
    settings: Settings,
    buffer: Buffer,
    read: Read[ParsedT],
    answer: Answer[ParsedT],
    check: Callable[[str, str], None] = check_headers,
) -> Response:
    """The response to a request. read: (body, content type, settings, URL's query, vocabularies) -> what is asked.

    check: refuses, by the headers Content-Type and Content-Encoding, a body that could not be read.
    """
    # Both before the body is read: what will be refused anyway need not be uploaded.
    content_type, encodings = request.headers.get("content-type", ""), request.headers.getlist("content-encoding")
    check(content_type, ",".join(encodings))
    context = request_context(request, settings, unidentified=True)
    try:
        async with asyncio.timeout(context.timeout_s):
            with buffer.lease(context.caller) as lease:
                body = await read_body(request, settings.max_body_bytes, lease)
                if context.caller == UNIDENTIFIED:
                    context = await _identified(request, body, settings, engine, context)
                    lease.pass_to(str(context.caller))
                engine.check_room(context)
                query, resolve = request.url.query, request.app.state.vocabularies.resolve
                parse = partial(read, body, content_type, settings, query, resolve)
                num_bytes = len(body)
                del body  # held by `parse` alone, so that it goes once it is parsed
                work = _work(request, parse, num_bytes, lease, engine, context, answer)
                del parse
                return await _unless_disconnected(request, work)
    except TimeoutError:
        raise DeadlineExceeded(f"The answer was not ready within {context.timeout_s:g} seconds.") from None
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _identified(
    request: Request, body: bytes, settings: Settings, engine: Engine, context: RequestContext
) -> RequestContext:
    """The context of a request whose key stands in its body. Raises UnauthorizedError where no valid one does."""
    surface, keys = request.state.surface, request.app.state.keys
    read = partial(key_in_body, body, surface.key_members, settings.max_json_values)
    key = read() if len(body) <= INLINE_BYTES else await engine.run_in_cpu_pool(read)
    name = None if key is None else keys.name_of(key)
    if name is None:
        raise unauthorized(surface)
    request.state.key = name
    return replace(context, caller=name)


async def _work(
    request: Request,
    parse: Callable[[], ParsedT],
    num_bytes: int,
    lease: Lease,
    engine: Engine,
    context: RequestContext,
    answer: Answer[ParsedT],
) -> Response:
    parsed = parse() if num_bytes <= INLINE_BYTES else await engine.run_in_cpu_pool(parse)
    del parse
    lease.shrink_to(parsed.num_bytes)
    return await answer(parsed, lease, context)


def translator_of(request: Request, fields: DescribeFields, card: ModelCard) -> Translator:
    """The names of a request's answer in the language that its client wants. card: of the model that answered."""
    languages = wanted_languages(fields.language, ",".join(request.headers.getlist("accept-language")))
    return Translator(languages, fields.vocabulary, card.translations, fields.task)


def json_response(document: bytes, translator: Translator | None) -> Response:
    """An answer's JSON, with the language of its names."""
    return Response(document, headers=language_headers(translator), media_type="application/json")


def language_headers(translator: Translator | None) -> dict[str, str]:
    """Headers that say in which language an answer's names are."""
    language = None if translator is None else translator.language
    return {"Content-Language": language, "Vary": "Accept-Language"} if language else {}


async def fetched(request: Request, image: bytes, url: str | None, lease: Lease) -> bytes:
    """An image's bytes, fetched where a request gives their address. Raises as `Fetcher.fetch` does, and
    InvalidRequestError where the settings allow none."""
    if url is None:
        return image
    fetcher: Fetcher | None = request.app.state.fetcher
    if fetcher is None:
        raise InvalidRequestError.at("/image/url", "This server does not support 'url'; send 'base64'.")
    return await fetcher.fetch(url, lease)


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work, but cancel it when the client disconnects. Raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnection(request))
    for each in (task, watch):
        each.add_done_callback(_seen)
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        watch.cancel()
        # A task keeps its error, the error's trace keeps this function, and this function would keep the task: and so
        # the image of a request that failed, until the garbage collector comes by.
        del task, watch, each


def _seen(task: "asyncio.Future[Any]") -> None:
    """What work raises while it is cancelled has nobody left to be told of it: without this, asyncio complains."""
    if not task.cancelled():
        task.exception()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
