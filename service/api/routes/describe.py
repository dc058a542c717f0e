"""POST /v1/describe, about one image or several."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.model import AlphaMask, QueryError, Translator, decode_image, decode_with_alpha
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.images_schemas import DescribeImagesResponse
from dynrefer.service.api.openapi import DESCRIBE_EXTRA, PROBLEMS, pick
from dynrefer.service.api.problems import is_of_region, model_field_errors
from dynrefer.service.api.responses import answer, box_hint, images_answer, queries
from dynrefer.service.api.routes.posting import fetched, json_response, respond, translator_of
from dynrefer.service.api.schemas import DescribeFields, DescribeResponse
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.results import DescribeResult, summed_ms
from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError, ServiceError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.description import ParsedImages, read_request
from dynrefer.service.inputs.parsing import ParsedRequest
from dynrefer.service.observability.traces import record_stages
from dynrefer.service.settings import Settings
from dynrefer.service.workers.image_task import DescribeInput

router = APIRouter(tags=["describe"])


@router.post(
    "/v1/describe",
    summary="Describe regions of an image",
    response_model=DescribeResponse | DescribeImagesResponse,
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
    Several images in one call: `images` in the place of `image` and `regions`, each with its own; a form has as many
    parts `image`. They share the deadline, and the limits of one body; an image that fails has an `error` in its place.
    The header `X-Request-Timeout` (seconds) may shorten the deadline; `X-Request-Id` is the answer's id if it
    matches `[A-Za-z0-9._-]{1,64}`.
    """
    return await respond(request, engine, settings, buffer, read_request, partial(_answer, request, engine, settings))


async def _answer(
    request: Request,
    engine: Engine,
    settings: Settings,
    parsed: ParsedRequest | ParsedImages,
    lease: Lease,
    context: RequestContext,
) -> Response:
    if isinstance(parsed, ParsedImages):
        return await _answer_several(request, engine, settings, parsed, lease, context)
    image = await fetched(request, parsed.image, parsed.url, lease)
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


async def _answer_several(
    request: Request, engine: Engine, settings: Settings, parsed: ParsedImages, lease: Lease, context: RequestContext
) -> Response:
    """Each image's answer in its place, one that fails too; one deadline and one place in the queue for all."""
    inputs = [
        await _input_or_error(request, each, settings.max_image_pixels, lease)
        if isinstance(each, ParsedRequest)
        else each
        for each in parsed.images
    ]
    if parsed.shared.vocabulary is not None:
        await engine.understand(parsed.shared.vocabulary)
    given = [each for each in inputs if isinstance(each, DescribeInput)]
    found = iter(await engine.describe_each(given, context) if given else ())
    results = [next(found) if isinstance(each, DescribeInput) else each for each in inputs]
    del inputs, given  # and with them the images
    results = [_of_regions_alone(each) for each in results]
    translator = translator_of(request, parsed.shared, engine)
    held = replace(parsed, images=tuple(_without_file(each) for each in parsed.images))
    written = await engine.run_in_cpu_pool(
        partial(_write_several, context, engine.card.name, held, results, translator)
    )
    described = [each for each in results if isinstance(each, DescribeResult)]
    request.state.timings_ms = summed_ms(described)
    for each in described:
        record_stages(request.app.state.tracer, each, context.trace)
    return json_response(written, translator)


async def _input_or_error(
    request: Request, parsed: ParsedRequest, max_pixels: int, lease: Lease
) -> DescribeInput | Exception:
    """What the engine is to describe, or why the image cannot be had. Raises QueueFullError where nothing has room."""
    try:
        image = await fetched(request, parsed.image, parsed.url, lease)
    except (InvalidRequestError, BodyTooLargeError) as error:
        return error
    return describe_input(parsed.fields, image, max_pixels)


def _of_regions_alone(result: DescribeResult | Exception) -> DescribeResult | Exception:
    """The result, or its error where that is not a region's own."""
    if isinstance(result, DescribeResult):
        try:
            _refuse_if_no_region_is_to_blame(result)
        except QueryError as error:
            return error
    return result


def _without_file(parsed: ParsedRequest | ServiceError) -> ParsedRequest | ServiceError:
    return replace(parsed, image=b"") if isinstance(parsed, ParsedRequest) else parsed


def _write_several(
    context: RequestContext,
    model: str,
    parsed: ParsedImages,
    results: Sequence[DescribeResult | Exception],
    translator: Translator,
) -> bytes:
    """The response's JSON. CPU work."""
    total_ms = (time.perf_counter() - context.began) * 1e3
    document = images_answer(context.id, model, parsed, results, total_ms, translator)
    return document.model_dump_json(exclude_none=True).encode()


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
