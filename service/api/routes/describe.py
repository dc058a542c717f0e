"""POST /v1/describe."""

import time
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.model import AlphaMask, QueryError, Translator, decode_image, decode_with_alpha
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.openapi import DESCRIBE_EXTRA, PROBLEMS, pick
from dynrefer.service.api.problems import is_of_region, model_field_errors
from dynrefer.service.api.responses import answer, box_hint, queries
from dynrefer.service.api.routes.posting import json_response, respond, translator_of
from dynrefer.service.api.schemas import DescribeFields, DescribeResponse
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.parsing import ParsedRequest, read_request
from dynrefer.service.observability.traces import record_stages
from dynrefer.service.settings import Settings
from dynrefer.service.workers.image_task import DescribeInput

router = APIRouter(tags=["describe"])


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
    return await respond(request, engine, settings, buffer, read_request, partial(_answer, request, engine, settings))


async def _answer(
    request: Request, engine: Engine, settings: Settings, parsed: ParsedRequest, image: bytes, context: RequestContext
) -> Response:
    if parsed.fields.vocabulary is not None:
        await engine.understand(parsed.fields.vocabulary)
    try:
        result = await engine.describe(describe_input(parsed.fields, image, settings.max_image_pixels), context)
    except QueryError as error:
        raise _with_hints(error, parsed.fields) from None
    _refuse_if_no_region_is_to_blame(result)
    translator = translator_of(request, parsed.fields, engine)
    write = partial(write_response, context, engine.card.name, replace(parsed, image=b""), result, translator)
    written = await engine.run_in_cpu_pool(write)
    request.state.timings_ms = result.timings_ms
    record_stages(request.app.state.tracer, result, context.trace)
    return json_response(written, translator)


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
