"""Requests whose fields are checked -> the answer's records: what the routes and the integrations have in common.

The records are made, and written in whatever form is wanted, in one hop to the CPU pool.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from dynrefer.model import AlphaMask, QueryError, Spoken, Translator, decode_image, decode_with_alpha
from dynrefer.service.api.conversations import converse_answer, converse_input, with_hints
from dynrefer.service.api.converse_schemas import ConverseResponse, DeltaOut
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.detections import detect_answer
from dynrefer.service.api.event_stream import EventStream
from dynrefer.service.api.images_schemas import DescribeImagesResponse
from dynrefer.service.api.posting import fetched, translator_of
from dynrefer.service.api.problems import is_of_region, model_field_errors
from dynrefer.service.api.responses import answer, box_hint, images_answer, queries, region_query
from dynrefer.service.api.schemas import DescribeFields, DescribeResponse
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.conversing import ConverseResult
from dynrefer.service.engine.detecting import DetectInput, DetectResult
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.results import DescribeResult, summed_ms
from dynrefer.service.engine.serving import Serving
from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError, ServiceError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.conversation import ParsedConversation
from dynrefer.service.inputs.description import ParsedImages
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.inputs.parsing import ParsedRequest
from dynrefer.service.observability.traces import record_passes, record_stages
from dynrefer.service.workers.image_task import DescribeInput

Written = TypeVar("Written")
Parsed = ParsedRequest | ParsedImages | ParsedDetection


def as_json(document: BaseModel) -> bytes:
    """A record of the contract, as it stands in a response."""
    return document.model_dump_json(exclude_none=True).encode()


async def describe_regions(
    request: Request,
    parsed: ParsedRequest,
    lease: Lease,
    context: RequestContext,
    write: Callable[[DescribeResponse], Written],
    model: Serving | None = None,
) -> tuple[Written, Translator]:
    """Describe the regions of one image. write: the records -> the response's body; CPU work, in a thread. model: one
    that the request holds already (`Engine.model`), where something else depends on it.

    Returns what was written, and who translated its names. Raises what `api/problems.py` reports.
    """
    engine: Engine = request.app.state.engine
    image = await fetched(request, parsed.image, parsed.url, lease)
    max_pixels = request.app.state.settings.max_image_pixels
    with engine.held(model) as held:
        if parsed.fields.vocabulary is not None:
            await engine.understand(parsed.fields.vocabulary, held)
        try:
            result = await engine.describe(describe_input(parsed.fields, image, max_pixels), context, held)
        except QueryError as error:
            raise _with_hints(error, parsed.fields) from None
        card = held.card
    _refuse_if_no_region_is_to_blame(result)
    translator = translator_of(request, parsed.fields, card)
    name, without_image = card.name, replace(parsed, image=b"")

    def written() -> Written:
        return write(answer(context.id, name, without_image, result, _ms_since(context.began), translator))

    body = await engine.run_in_cpu_pool(written)
    request.state.timings_ms = result.timings_ms
    record_stages(request.app.state.tracer, result, context.trace)
    return body, translator


async def describe_images(
    request: Request,
    parsed: ParsedImages,
    lease: Lease,
    context: RequestContext,
    write: Callable[[DescribeImagesResponse], Written],
    model: Serving | None = None,
) -> tuple[Written, Translator]:
    """Describe the regions of several images: each one's answer in its place, one that fails too; one deadline and one
    place in the queue for all. As `describe_regions` else.
    """
    engine: Engine = request.app.state.engine
    max_pixels = request.app.state.settings.max_image_pixels
    inputs = [
        await _input_or_error(request, each, max_pixels, lease) if isinstance(each, ParsedRequest) else each
        for each in parsed.images
    ]
    given = [each for each in inputs if isinstance(each, DescribeInput)]
    with engine.held(model) as held:
        if parsed.shared.vocabulary is not None:
            await engine.understand(parsed.shared.vocabulary, held)
        found = iter(await engine.describe_each(given, context, held) if given else ())
        card = held.card
    results = [next(found) if isinstance(each, DescribeInput) else each for each in inputs]
    del inputs, given  # and with them the images
    results = [_of_regions_alone(each) for each in results]
    translator = translator_of(request, parsed.shared, card)
    name = card.name
    without_images = replace(parsed, images=tuple(_without_file(each) for each in parsed.images))

    def written() -> Written:
        return write(images_answer(context.id, name, without_images, results, _ms_since(context.began), translator))

    body = await engine.run_in_cpu_pool(written)
    described = [each for each in results if isinstance(each, DescribeResult)]
    request.state.timings_ms = summed_ms(described)
    for each in described:
        record_stages(request.app.state.tracer, each, context.trace)
    return body, translator


async def find_regions(
    request: Request,
    parsed: ParsedDetection,
    lease: Lease,
    context: RequestContext,
    write: Callable[[DetectResponse], Written],
    model: Serving | None = None,
) -> tuple[Written, Translator | None]:
    """Find regions of one image, and describe them where that is asked for. As `describe_regions` else; there is no
    translator where nothing is described.
    """
    engine: Engine = request.app.state.engine
    image = await fetched(request, parsed.image, parsed.url, lease)
    describe = parsed.describe
    decode = partial(decode_image, max_pixels=request.app.state.settings.max_image_pixels)
    to_describe = None if describe is None else region_query(describe)
    with engine.held(model) as held:
        if describe is not None and describe.vocabulary is not None:
            await engine.understand(describe.vocabulary, held)
        wanted = DetectInput(image, decode, parsed.query, to_describe)
        result: DetectResult = await engine.detect(wanted, context, held)
        card = held.card
    translator = None if describe is None else translator_of(request, describe, card)
    name = card.name

    def written() -> Written:
        total_ms = _ms_since(context.began)
        return write(detect_answer(context.id, name, parsed.fields.orientation, result, total_ms, translator))

    body = await engine.run_in_cpu_pool(written)
    request.state.timings_ms = result.timings_ms
    record_passes(request.app.state.tracer, result, context.trace)
    return body, translator


async def answer_question(
    request: Request,
    parsed: ParsedConversation,
    lease: Lease,
    context: RequestContext,
    write: Callable[[ConverseResponse], Written],
) -> Written:
    """Answer a question about an image. As `describe_regions` else, but nothing is translated."""
    written: Written | None = None
    async with aclosing(_spoken(request, parsed, lease, context, write)) as steps:
        async for step in steps:
            if not isinstance(step, Spoken):
                written = step
    assert written is not None, "an answer without a result"
    return written


async def stream_answer(
    request: Request, parsed: ParsedConversation, lease: Lease, context: RequestContext, stream: EventStream
) -> Response:
    """The same, as events. Returns what says how it ended."""
    sent = 0
    async with aclosing(_spoken(request, parsed, lease, context, as_json)) as steps:
        async for step in steps:
            if not isinstance(step, Spoken):
                await stream.event("done", step.decode())
                continue
            stable = len(step.reply.content) if step.done else step.stable
            if stable > sent:
                await stream.event("delta", DeltaOut(content=step.reply.content[sent:stable]).model_dump_json())
                sent = stable
    return Response()


async def _spoken(
    request: Request,
    parsed: ParsedConversation,
    lease: Lease,
    context: RequestContext,
    write: Callable[[ConverseResponse], Written],
) -> AsyncGenerator[Spoken | Written, None]:
    """The answer as far as it is written, again and again, and last what was written of it."""
    engine: Engine = request.app.state.engine
    image = await fetched(request, parsed.image, parsed.url, lease)
    wanted = converse_input(parsed, image, request.app.state.settings.max_image_pixels)
    with engine.model() as held:
        try:
            async with aclosing(engine.converse(wanted, context, held)) as steps:
                async for step in steps:
                    if not isinstance(step, ConverseResult):
                        yield step
                        continue
                    result = step
        except QueryError as error:
            raise with_hints(error, parsed) from None
        name = held.card.name

    def written() -> Written:
        return write(converse_answer(context.id, name, parsed.fields.orientation, result, _ms_since(context.began)))

    body = await engine.run_in_cpu_pool(written)
    request.state.timings_ms = result.timings_ms
    record_passes(request.app.state.tracer, result, context.trace)
    yield body


async def answer_parsed(
    request: Request,
    parsed: Parsed,
    lease: Lease,
    context: RequestContext,
    write: Callable[[Any], Written],
    model: Serving | None = None,
) -> tuple[Written, Translator | None]:
    """Whichever of the three it asks for. write: takes the response of that."""
    if isinstance(parsed, ParsedDetection):
        return await find_regions(request, parsed, lease, context, write, model)
    if isinstance(parsed, ParsedImages):
        return await describe_images(request, parsed, lease, context, write, model)
    return await describe_regions(request, parsed, lease, context, write, model)


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


def _ms_since(began: float) -> float:
    """Milliseconds, of a time in `time.perf_counter` seconds."""
    return (time.perf_counter() - began) * 1e3
