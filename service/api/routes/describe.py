"""POST /v1/describe: the route that the service is for."""

import asyncio
import re
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.openapi import DESCRIBE_EXTRA, PROBLEMS, pick
from dynrefer.service.api.responses import answer, queries
from dynrefer.service.api.schemas import DescribeResponse
from dynrefer.service.engine.engine import Caller, Engine
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import DeadlineError, InvalidRequestError
from dynrefer.service.inputs import decoding as images
from dynrefer.service.inputs.bodies import read_body
from dynrefer.service.inputs.parsing import ParsedRequest, check_headers, read_request
from dynrefer.service.inputs.url_fetch import Fetcher
from dynrefer.service.observability.traces import record_stages
from dynrefer.service.settings import Settings

router = APIRouter(tags=["describe"])

Result = TypeVar("Result")

# Parsing a body of this size costs less than a hop to a worker thread and back.
INLINE_BYTES = 131_072
TIMEOUT_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
# Nobody reads it; it keeps the record of requests right (nginx's "client closed request").
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
    `request` is the same object without `image`. What the task does not ask for is absent from the answer.
    The header `X-Request-Timeout` (seconds) may shorten the deadline; `X-Request-Id` is the answer's id if it
    matches `[A-Za-z0-9._-]{1,64}`.
    """
    # Both before the body is read: what will be refused anyway need not be uploaded.
    check_headers(request.headers.get("content-type", ""), request.headers.get("content-encoding", ""))
    timeout_s = _timeout_s(request.headers.get("x-request-timeout"), settings.request_timeout_s)
    caller = Caller(request.state.key, time.monotonic() + timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            with buffer.lease() as lease:
                body = await read_body(request, settings.max_body_bytes, lease)
                engine.check_room(caller)
                return await _unless_disconnected(request, _answer(request, body, engine, settings, caller))
    except TimeoutError:
        raise DeadlineError(f"The answer was not ready within {timeout_s:g} seconds.") from None
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer(request: Request, body: bytes, engine: Engine, settings: Settings, caller: Caller) -> Response:
    intake = await _parse(body, request.headers["content-type"], engine, settings)
    image = intake.image if intake.url is None else await _fetched(request, intake.url)
    began, request_id, regions = request.state.began, request.state.request_id, intake.fields.regions

    def write(described: DescribeResult) -> tuple[DescribeResult, bytes]:
        total_ms = (time.perf_counter() - began) * 1e3
        document = answer(request_id, engine.card.name, regions, described, total_ms)
        return described, document.model_dump_json(exclude_none=True).encode()

    described, written = await engine.describe(
        regions=len(regions),
        decode=partial(images.decode, image, settings.max_image_pixels),
        ask=partial(queries, intake.fields),
        write=write,
        caller=caller,
    )
    request.state.timings_ms = described.timings_ms
    record_stages(request.app.state.tracer, described)
    return Response(written, media_type="application/json")


async def _fetched(request: Request, url: str) -> bytes:
    fetcher: Fetcher = request.app.state.fetcher
    return await fetcher.fetch(url)


async def _parse(body: bytes, content_type: str, engine: Engine, settings: Settings) -> ParsedRequest:
    parse = partial(read_request, body, content_type, settings)
    return parse() if len(body) <= INLINE_BYTES else await engine.parse(parse)


def _timeout_s(header: str | None, longest_s: float) -> float:
    """The request's deadline: the setting, which the header may only shorten."""
    if header is None:
        return longest_s
    if not TIMEOUT_SECONDS.fullmatch(header.strip()) or float(header) == 0:
        raise InvalidRequestError("The header X-Request-Timeout is a positive number of seconds.")
    return min(float(header), longest_s)


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work, but give it up when the client hangs up. Raises ClientDisconnect then."""
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
