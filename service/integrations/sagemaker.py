"""Amazon SageMaker: the container contract of an endpoint, GET /ping and POST /invocations.

The body of /invocations is that of /v1/describe in any of its forms, or that of /v1/detect where the query says
`?endpoint=detect` or a JSON body has the member `endpoint`.
"""

from functools import partial

from fastapi import APIRouter, Request, Response

from dynrefer.model import ResolveVocabulary
from dynrefer.service.api.answering import as_json, describe_images, describe_regions, find_regions
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.posting import json_response, respond
from dynrefer.service.api.surfaces import Surface
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.executor import Phase
from dynrefer.service.errors import UnavailableError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.description import ParsedImages, read_request
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.inputs.parsing import ParsedRequest
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.settings import Settings

router = APIRouter(tags=["sagemaker"])


def integration(settings: Settings) -> Integration:
    """The integration `sagemaker`."""
    return Integration(Surface("sagemaker", ("/ping", "/invocations"), open_paths=frozenset({"/ping"})), router)


@router.get("/ping", summary="SageMaker: can the service describe regions?")
async def ping(engine: CurrentEngine) -> Response:
    """As /readyz."""
    if engine.phase is not Phase.READY:
        raise UnavailableError(f"The service is {engine.phase.value}.")
    return Response()


@router.post("/invocations", summary="SageMaker: describe or find regions")
async def invocations(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """As /v1/describe."""
    return await respond(request, engine, settings, buffer, _read, partial(_answer, request))


def _read(
    body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> ParsedRequest | ParsedImages | ParsedDetection:
    return read_request(body, content_type, settings, query, resolve)


async def _answer(
    request: Request, parsed: ParsedRequest | ParsedImages | ParsedDetection, lease: Lease, context: RequestContext
) -> Response:
    if isinstance(parsed, ParsedDetection):
        return json_response(*await find_regions(request, parsed, lease, context, as_json))
    if isinstance(parsed, ParsedImages):
        return json_response(*await describe_images(request, parsed, lease, context, as_json))
    return json_response(*await describe_regions(request, parsed, lease, context, as_json))
