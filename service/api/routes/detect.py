"""POST /v1/detect."""

import time
from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.model import Translator, decode_image
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.detections import detect_answer
from dynrefer.service.api.openapi import DETECT_EXTRA, PROBLEMS, pick
from dynrefer.service.api.responses import region_query
from dynrefer.service.api.routes.posting import fetched, json_response, respond, translator_of
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.detecting import DetectInput, DetectResult
from dynrefer.service.engine.engine import Engine
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.detection import ParsedDetection, read_detect_request
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
    return await respond(
        request, engine, settings, buffer, read_detect_request, partial(_answer, request, engine, settings)
    )


async def _answer(
    request: Request, engine: Engine, settings: Settings, parsed: ParsedDetection, lease: Lease, context: RequestContext
) -> Response:
    image = await fetched(request, parsed.image, parsed.url, lease)
    describe = parsed.describe
    if describe is not None and describe.vocabulary is not None:
        await engine.understand(describe.vocabulary)
    decode = partial(decode_image, max_pixels=settings.max_image_pixels)
    to_describe = None if describe is None else region_query(describe)
    result = await engine.detect(DetectInput(image, decode, parsed.query, to_describe), context)
    translator = None if describe is None else translator_of(request, describe, engine)
    write = partial(_written, context, engine.card.name, parsed.fields.orientation, result, translator)
    written = await engine.run_in_cpu_pool(write)
    request.state.timings_ms = result.timings_ms
    return json_response(written, translator)


def _written(
    context: RequestContext, model: str, orientation: str, result: DetectResult, translator: Translator | None
) -> bytes:
    """The response's JSON. CPU work."""
    total_ms = (time.perf_counter() - context.began) * 1e3
    document = detect_answer(context.id, model, orientation, result, total_ms, translator)
    return document.model_dump_json(exclude_none=True).encode()
