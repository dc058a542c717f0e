"""POST /v1/describe."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from dynrefer.model import AlphaMask, QueryError, Translator, decode_image, decode_with_alpha
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings, request_context
from dynrefer.service.api.openapi import DESCRIBE_EXTRA, PROBLEMS, pick
from dynrefer.service.api.problems import is_of_region, model_field_errors
from dynrefer.service.api.responses import answer, box_hint, queries
from dynrefer.service.api.schemas import DescribeFields, DescribeResponse
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import DeadlineExceeded, InvalidRequestError
from dynrefer.service.inputs.bodies import Lease, read_body
from dynrefer.service.inputs.language import wanted_languages
from dynrefer.service.inputs.parsing import ParsedRequest, check_headers, read_request
from dynrefer.service.inputs.url_fetch import Fetcher
from dynrefer.service.observability.traces import record_stages
from dynrefer.service.settings import Settings
from dynrefer.service.workers.image_task import DescribeInput

router = APIRouter(tags=["describe"])

Result = TypeVar("Result")

# Parsing a body of this size, whatever it holds, costs less than a hop to a worker thread and back.
INLINE_BYTES = 8_192
# Nobody reads it; it is for the request log and the metrics (nginx's "client closed request").
CLIENT_CLOSED_REQUEST = 499


@router.post(
    "/v1/describe",
    summary="Describe regions of an image",
    response_model=DescribeResponse,
    response_model_exclude_none=True,
    responses=pick(PROBLEMS, 401, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=DESCRIBE_EXTRA,
)
async def describe(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """Captions, tags, attributes and categories of regions, with scores and with the views that were looked
    at.

    The image comes in Base64 inside a JSON object, or as the file part `image` of a multipart form whose part
    `request` is the same object without `image`, or as the whole body (`Content-Type: image/*`) with everything else
    as query parameters: `?box=64,256,384,384&box=0,0,32,32&task=caption&top_k=3`; without a box the region is the
    whole image. Outputs of other tasks than the requested ones are absent.
    The header `X-Request-Timeout` (seconds) may shorten the deadline; `X-Request-Id` is the answer's id if it
    matches `[A-Za-z0-9._-]{1,64}`.
    """
    # Both before the body is read: what will be refused anyway need not be uploaded.
    content_type, encodings = request.headers.get("content-type", ""), request.headers.getlist("content-encoding")
    check_headers(content_type, ",".join(encodings))
    context = request_context(request, settings)
    try:
        async with asyncio.timeout(context.timeout_s):
            with buffer.lease(context.caller) as lease:
                body = await read_body(request, settings.max_body_bytes, lease)
                engine.check_room(context)
                query, resolve = request.url.query, request.app.state.vocabularies.resolve
                parse = partial(read_request, body, content_type, settings, query, resolve)
                num_bytes = len(body)
                del body  # held by `parse` alone, so that it goes once it is parsed
                work = _answer(request, parse, num_bytes, lease, engine, settings, context)
                del parse
                return await unless_disconnected(request, work)
    except TimeoutError:
        raise DeadlineExceeded(f"The answer was not ready within {context.timeout_s:g} seconds.") from None
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer(
    request: Request,
    parse: Callable[[], ParsedRequest],
    num_bytes: int,
    lease: Lease,
    engine: Engine,
    settings: Settings,
    context: RequestContext,
) -> Response:
    parsed = parse() if num_bytes <= INLINE_BYTES else await engine.run_in_cpu_pool(parse)
    del parse
    lease.shrink_to(parsed.num_bytes)
    image = parsed.image if parsed.url is None else await fetched_image(request, parsed.url, lease)
    if parsed.fields.vocabulary is not None:
        await engine.understand(parsed.fields.vocabulary)
    try:
        result = await engine.describe(describe_input(parsed.fields, image, settings.max_image_pixels), context)
    except QueryError as error:
        raise _with_hints(error, parsed.fields) from None
    _refuse_if_no_region_is_to_blame(result)
    languages = wanted_languages(parsed.fields.language, ",".join(request.headers.getlist("accept-language")))
    translator = Translator(languages, parsed.fields.vocabulary, engine.card.translations, parsed.fields.task)
    write = partial(write_response, context, engine.card.name, replace(parsed, image=b""), result, translator)
    written = await engine.run_in_cpu_pool(write)
    request.state.timings_ms = result.timings_ms
    record_stages(request.app.state.tracer, result, context.trace)
    headers = {"Content-Language": translator.language, "Vary": "Accept-Language"} if translator.language else None
    return Response(written, headers=headers, media_type="application/json")


def describe_input(fields: DescribeFields, image: bytes, max_pixels: int) -> DescribeInput:
    """What the engine is to describe: nothing is decoded yet."""
    shown = any(isinstance(region.mask, AlphaMask) for region in fields.regions)
    decode = decode_with_alpha if shown else decode_image
    return DescribeInput(
        num_regions=len(fields.regions),
        image=image,
        decode=partial(decode, max_pixels=max_pixels),
        queries=queries(fields),
        report_errors=fields.on_region_error == "report",
        prompts=sum(region.box is None for region in fields.regions),
        pointed=tuple(place for place, region in enumerate(fields.regions) if region.points),
    )


def _with_hints(error: QueryError, fields: DescribeFields) -> InvalidRequestError:
    """Every bad region, with what its numbers may have meant."""
    field_errors = model_field_errors(error, partial(box_hint, fields))
    single = field_errors[0].detail if len(field_errors) == 1 else f"The request has {len(field_errors)} errors."
    return InvalidRequestError(single, field_errors)


def _refuse_if_no_region_is_to_blame(result: DescribeResult) -> None:
    """Errors are reported in the place of a region only where they are its own. Raises QueryError."""
    for found in result.regions:
        if isinstance(found, QueryError) and not is_of_region(found):
            raise found


def write_response(
    context: RequestContext,
    model: str,
    parsed: ParsedRequest,
    result: DescribeResult,
    translator: Translator | None = None,
) -> bytes:
    """The response's JSON, its names in the translator's language. CPU work."""
    total_ms = (time.perf_counter() - context.began) * 1e3
    document = answer(context.id, model, parsed, result, total_ms, translator)
    return document.model_dump_json(exclude_none=True).encode()


async def fetched_image(request: Request, url: str, lease: Lease) -> bytes:
    """The bytes of an image that a request gives the address of."""
    fetcher: Fetcher = request.app.state.fetcher
    return await fetcher.fetch(url, lease)


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work, but cancel it when the client disconnects. Raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        watch.cancel()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
