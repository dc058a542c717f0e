"""POST /v1/converse."""

from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.service.api.answering import answer_question, as_json, stream_answer
from dynrefer.service.api.converse_schemas import EVENTS, ConverseResponse
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.event_stream import EventStream, LiveResponse
from dynrefer.service.api.openapi import CONVERSE_EXTRA, PROBLEMS, STREAMED, pick
from dynrefer.service.api.posting import json_response, respond
from dynrefer.service.context import RequestContext
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.conversation import ParsedConversation, read_converse_request

router = APIRouter(tags=["converse"])


@router.post(
    "/v1/converse",
    summary="Ask about an image and its regions",
    response_model=ConverseResponse,
    response_model_exclude_none=True,
    responses={**STREAMED, **pick(PROBLEMS, 401, 413, 415, 422, 429, 500, 503, 504)},
    openapi_extra=CONVERSE_EXTRA,
)
async def converse(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """The answer to the last of `messages`, in which `<region:ID>` stands for a region of `regions`. Where it names an
    object, `grounding` says with which characters and where the object is; `verified` says whether the region model,
    which looks at that box alone, agrees. With `answers` the best of these is chosen, each with a probability.

    With `stream`, or the header `Accept: text/event-stream`, the answer comes as server-sent events while it is
    written: `delta` with more of the text, then `done` with the whole answer; `error` with a problem where it fails
    after it has begun.

    The three forms of a request are those of /v1/describe; with the image as the whole body the fields are query
    parameters: `?question=What is <region:0>?&box=8,8,40,40&answer=a dog&answer=a cat`.
    """

    async def work(stream: EventStream) -> Response:
        answer = partial(_answer, request, stream)
        return await respond(request, engine, settings, buffer, read_converse_request, answer)

    return LiveResponse(work, request.scope["state"])


async def _answer(
    request: Request, stream: EventStream, parsed: ParsedConversation, lease: Lease, context: RequestContext
) -> Response:
    if parsed.fields.stream or _wants_events(request):
        return await stream_answer(request, parsed, lease, context, stream)
    return json_response(await answer_question(request, parsed, lease, context, as_json), None)


def _wants_events(request: Request) -> bool:
    """Whether a client accepts events, and no document."""
    accepted = ",".join(request.headers.getlist("accept")).lower()
    types = [each.split(";")[0].strip() for each in accepted.split(",")]
    return EVENTS in types and "application/json" not in types
