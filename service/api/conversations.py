"""Between the contract of /v1/converse and the engine: a request's fields -> what is asked, an answer -> its schema."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dynrefer.model import AlphaMask, GroundedSpan, QueryError, RegionQuery, Scribble, decode_image, decode_with_alpha
from dynrefer.service.api.converse_schemas import AnswerOut, ConverseResponse, GroundedSpanOut, ReplyOut, UsageOut
from dynrefer.service.api.problems import model_field_errors
from dynrefer.service.api.responses import Frame, box_hint, given_prompts, in_order, notation, shown
from dynrefer.service.api.schemas import ImageOut
from dynrefer.service.engine.conversing import ConverseInput, ConverseResult
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.conversation import ParsedConversation
from dynrefer.service.inputs.region_queries import Orientation, region_queries


def converse_input(parsed: ParsedConversation, image: bytes, max_pixels: int) -> ConverseInput:
    """What the engine is asked: nothing is decoded yet. image: the file's bytes."""
    regions = parsed.fields.regions
    decode = decode_with_alpha if any(isinstance(each.mask, AlphaMask) for each in regions) else decode_image
    query = RegionQuery(box=(0.0, 0.0, 0.0, 0.0))
    boxes = tuple(region.box for region in regions)
    given = given_prompts(regions)
    # Whatever says where the object ends has its mask; a scribble does not.
    outlined = frozenset(place for place, prompt in given.prompts.items() if not isinstance(prompt, Scribble))
    given = replace(given, highlighted=outlined)
    return ConverseInput(
        image=image,
        decode=partial(decode, max_pixels=max_pixels),
        queries=partial(
            region_queries, boxes, notation(parsed.fields), query, given=replace(given, highlighted=outlined)
        ),
        ids=parsed.ids,
        conversation=parsed.conversation,
        verify=parsed.fields.verify,
        pointed=tuple(place for place, region in enumerate(regions) if region.points),
        prompts=sum(region.box is None for region in regions),
    )


def with_hints(error: QueryError, parsed: ParsedConversation) -> InvalidRequestError:
    """Every field at fault, with what the numbers of a region's box may have meant."""
    field_errors = model_field_errors(error, partial(box_hint, parsed.fields))
    single = field_errors[0].detail if len(field_errors) == 1 else f"The request has {len(field_errors)} errors."
    return InvalidRequestError(single, field_errors)


def converse_answer(
    request_id: str, model: str, orientation: str, result: ConverseResult, total_ms: float
) -> ConverseResponse:
    """The answer's schema. total_ms: since the request's first byte."""
    frame = Frame(result.info, stored=orientation == Orientation.STORED.value)
    (width, height), frames, reply = frame.size, result.info.frames, result.reply
    message = ReplyOut(
        content=reply.content,
        grounding=[_grounded(each, frame) for each in reply.grounding],
        probability=None if reply.probability is None else shown(reply.probability),
        answers=[AnswerOut(answer=each.answer, probability=shown(each.probability)) for each in reply.answers] or None,
    )
    return ConverseResponse(
        id=request_id,
        model=model,
        image=ImageOut(width=width, height=height, frames=frames if frames > 1 else None),
        message=message,
        finish_reason=reply.finish.value,
        usage=UsageOut(completion_tokens=reply.tokens),
        timings_ms=in_order({**result.timings_ms, "total": total_ms}),
    )


def _grounded(span: GroundedSpan, frame: Frame) -> GroundedSpanOut:
    return GroundedSpanOut(
        span=span.span,
        box=frame.box(span.box, 4),
        probability=None if span.probability is None else shown(span.probability),
        verified=span.verified,
        region=span.region,
    )
