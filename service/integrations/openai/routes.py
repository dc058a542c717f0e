"""POST /v1/chat/completions, and GET /v1/models/{model}."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from dynrefer.model import ModelCard
from dynrefer.service.api.answering import describe_regions
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import language_headers, respond
from dynrefer.service.api.responses import model_entry
from dynrefer.service.api.schemas import DescribeResponse, ModelEntry
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import FieldError, InvalidRequestError, NotFoundError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.forms import check_json_headers
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.openai.parameters import Wanted
from dynrefer.service.integrations.openai.reading import ParsedChat, read_chat
from dynrefer.service.integrations.openai.schemas import ChatCompletionOut, ErrorAnswerOut, request_schema
from dynrefer.service.integrations.openai.writing import write_completion

# DAM's server has its route without the version.
CHAT_PATHS = ("/v1/chat/completions", "/chat/completions")
# Names for whatever model is loaded: the second one is what DAM's clients ask for.
ANY_MODEL = ("dynrefer", "describe_anything_model")
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswerOut, "description": "A parameter, the image or a region is not valid"},
    401: {"model": ErrorAnswerOut, "description": "Keys are configured, and none or a wrong one was given"},
    404: {"model": ErrorAnswerOut, "description": "Another model is loaded"},
    413: {"model": ErrorAnswerOut, "description": "The body has too many bytes or the image too many pixels"},
    429: {"model": ErrorAnswerOut, "description": "The queue has no room for the whole request"},
    500: {"model": ErrorAnswerOut, "description": "The model failed, or something else on the server's side"},
    503: {"model": ErrorAnswerOut, "description": "Not ready, shutting down, or the device is lost"},
    504: {"model": ErrorAnswerOut, "description": "The deadline passed"},
}
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": request_schema()}}}}

router = APIRouter(tags=["openai"])


async def chat_completions(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """Captions of the regions of an image, as the text of a chat completion; the typed records stand beside it.

    The regions are those of the field `regions`, or boxes in the text, or what the image's alpha channel shows, or the
    whole image. The fields of /v1/describe may stand beside OpenAI's. With `stream` the answer is a stream of events.
    """
    return await respond(
        request, engine, settings, buffer, read_chat, partial(_answer, request, engine), check_json_headers
    )


for _path in CHAT_PATHS:
    router.post(
        _path,
        name="chat_completions" if _path == CHAT_PATHS[0] else "chat_completions_unversioned",
        summary="OpenAI: describe regions of an image",
        response_model=ChatCompletionOut,
        responses=ERRORS,
        openapi_extra=BODY,
        include_in_schema=_path == CHAT_PATHS[0],
    )(chat_completions)


@router.get(
    "/v1/models/{model:path}",
    summary="OpenAI: the loaded model",
    responses={status: ERRORS[status] for status in (401, 404, 503)},
)
async def retrieve_model(model: str, engine: CurrentEngine) -> ModelEntry:
    """The loaded model, by its name, as an item of OpenAI's list."""
    _check_model(model, engine.card)
    return model_entry(engine.card, engine.loaded_at)


async def _answer(
    request: Request, engine: Engine, parsed: ParsedChat, lease: Lease, context: RequestContext
) -> Response:
    wanted, fields = parsed.wanted, parsed.request.fields
    with engine.model() as model:  # the answer names the model that is checked here
        card = model.card
        _check_model(wanted.model, card)
        _check_length(wanted, card.max_caption_tokens, len(fields.regions))

        def write(response: DescribeResponse) -> tuple[bytes, str]:
            return write_completion(response, wanted, card, fields.max_words)

        with parsed.places.told():
            described = await describe_regions(request, parsed.request, lease, context, write, model)
    (body, media_type), translator = described
    headers = language_headers(translator) | ({"Cache-Control": "no-cache"} if wanted.stream else {})
    return Response(body, headers=headers, media_type=media_type)


def _check_model(name: str, card: ModelCard) -> None:
    """Raises NotFoundError for another one than is loaded."""
    loaded = card.name
    if name not in (loaded, *ANY_MODEL):
        detail = f"The model '{printable(name)}' is not loaded; '{loaded}' is, also by the name 'dynrefer'."
        raise NotFoundError(detail, [FieldError("/model", detail)])


def _check_length(wanted: Wanted, most: int | None, regions: int) -> None:
    """Captions are not cut: a limit of tokens holds where the model keeps to it anyway. Raises InvalidRequestError."""
    if wanted.max_tokens is None or most is None or wanted.max_tokens >= most * regions:
        return
    detail = (
        f"Captions of this model have up to {most} tokens, and are not cut: {most * regions} are the least that can be "
        "promised for this request. Raise or leave out the limit; 'max_words' limits each caption."
    )
    raise InvalidRequestError.at(f"/{wanted.limited_by}", detail)
