"""POST /v1/detect."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from dynrefer.model import Translator, decode_image
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings, request_context
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.detections import detect_answer
from dynrefer.service.api.openapi import DETECT_EXTRA, PROBLEMS, pick
from dynrefer.service.api.responses import region_query
from dynrefer.service.api.routes.describe import (
    CLIENT_CLOSED_REQUEST,
    INLINE_BYTES,
    fetched_image,
    unless_disconnected,
)
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.detecting import DetectInput, DetectResult
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import DeadlineExceeded
from dynrefer.service.inputs.bodies import Lease, read_body
from dynrefer.service.inputs.detection import ParsedDetection, read_detect_request
from dynrefer.service.inputs.language import wanted_languages
from dynrefer.service.inputs.parsing import check_headers
from dynrefer.service.settings import Settings

router = APIRouter(tags=["detect"])


@router.post(
    "/v1/detect",
    summary="Find regions of an image",
    response_model=DetectResponse,
    response_model_exclude_none=True,
    responses=pick(PROBLEMS, 401, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=DETECT_EXTRA,
)
async def detect(request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer) -> Response:
    """Regions that nobody has drawn: of the things that `names` lists, of every noun phrase of the sentence `phrase`,
    or, with neither, of every object; each with a score, a calibrated probability and, with `masks`, its mask. Names
    that the image does not show come back in `absent`. With `describe` the regions are described in the same request.

    The three forms of a request are those of /v1/describe; with the image as the whole body the fields are query
    parameters: `?name=dog&name=cat&masks=true&describe=caption,tags`.
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
                parse = partial(read_detect_request, body, content_type, settings, query, resolve)
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
    parse: Callable[[], ParsedDetection],
    num_bytes: int,
    lease: Lease,
    engine: Engine,
    settings: Settings,
    context: RequestContext,
) -> Response:
    parsed = parse() if num_bytes <= INLINE_BYTES else await engine.run_in_cpu_pool(parse)
    del parse
    lease.shrink_to(len(parsed.image))
    image = parsed.image if parsed.url is None else await fetched_image(request, parsed.url, lease)
    describe = parsed.describe
    if describe is not None and describe.vocabulary is not None:
        await engine.understand(describe.vocabulary)
    result = await engine.detect(
        DetectInput(
            image,
            partial(decode_image, max_pixels=settings.max_image_pixels),
            parsed.query,
            None if describe is None else region_query(describe),
        ),
        context,
    )
    translator = None
    if describe is not None:
        languages = wanted_languages(describe.language, ",".join(request.headers.getlist("accept-language")))
        translator = Translator(languages, describe.vocabulary, engine.card.translations, describe.task)
    write = partial(_written, context, engine.card.name, parsed.fields.orientation, result, translator)
    written = await engine.run_in_cpu_pool(write)
    request.state.timings_ms = result.timings_ms
    language = translator.language if translator is not None else None
    headers = {"Content-Language": language, "Vary": "Accept-Language"} if language else None
    return Response(written, headers=headers, media_type="application/json")


def _written(
    context: RequestContext, model: str, orientation: str, result: DetectResult, translator: Translator | None
) -> bytes:
    """The response's JSON. CPU work."""
    total_ms = (time.perf_counter() - context.began) * 1e3
    document = detect_answer(context.id, model, orientation, result, total_ms, translator)
    return document.model_dump_json(exclude_none=True).encode()
