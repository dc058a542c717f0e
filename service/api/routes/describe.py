"""POST /v1/describe, about one image or several."""

from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.service.api.answering import as_json, describe_images, describe_regions
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.images_schemas import DescribeImagesResponse
from dynrefer.service.api.openapi import DESCRIBE_EXTRA, PROBLEMS, pick
from dynrefer.service.api.posting import json_response, respond
from dynrefer.service.api.schemas import DescribeResponse
from dynrefer.service.context import RequestContext
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.description import ParsedImages, read_request
from dynrefer.service.inputs.parsing import ParsedRequest

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
    return await respond(request, engine, settings, buffer, read_request, partial(_answer, request))


async def _answer(
    request: Request, parsed: ParsedRequest | ParsedImages, lease: Lease, context: RequestContext
) -> Response:
    if isinstance(parsed, ParsedImages):
        return json_response(*await describe_images(request, parsed, lease, context, as_json))
    return json_response(*await describe_regions(request, parsed, lease, context, as_json))
