"""POST /v1/detect."""

from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.service.api.answering import as_json, find_regions
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.openapi import DETECT_EXTRA, PROBLEMS, pick
from dynrefer.service.api.posting import json_response, respond
from dynrefer.service.context import RequestContext
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.detection import ParsedDetection, read_detect_request

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
    return await respond(request, engine, settings, buffer, read_detect_request, partial(_answer, request))


async def _answer(request: Request, parsed: ParsedDetection, lease: Lease, context: RequestContext) -> Response:
    return json_response(*await find_regions(request, parsed, lease, context, as_json))
