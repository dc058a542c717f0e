"""Amazon SageMaker: the container contract of an endpoint, GET /ping and POST /invocations.

The body of /invocations is that of /v1/describe in any of its forms, or that of /v1/detect where `endpoint` says so.
The platform passes on the body, its content type, and one header that is its client's own, "Custom Attributes", which
is read as the query of a URL: `endpoint`, `key`, and beside an image that is the whole body the fields of the request.
A JSON body may have `endpoint` and `key` as members instead.
"""

from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from dynrefer.model import ResolveVocabulary
from dynrefer.service.api.answering import Parsed, answer_parsed, as_json
from dynrefer.service.api.dependencies import CurrentBuffer, CurrentEngine, CurrentSettings
from dynrefer.service.api.openapi import DESCRIBE_EXTRA
from dynrefer.service.api.posting import json_response, respond
from dynrefer.service.api.surfaces import Surface
from dynrefer.service.context import RequestContext
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.description import read_images, read_request
from dynrefer.service.inputs.detection import read_detect_request, read_detection
from dynrefer.service.inputs.forms import JSON, PostedForm, check_headers, is_about_several, media_type
from dynrefer.service.inputs.json_text import parse_json
from dynrefer.service.inputs.parsing import read_single
from dynrefer.service.integrations.endpoints import endpoint_of
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.settings import Settings

ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
# What SageMaker's own algorithms call an image, and what a client sends that names no type.
IMAGE_TYPES = ("application/x-image", "application/octet-stream")
_PARAMETERS = [
    {
        "name": "X-Amzn-SageMaker-Custom-Attributes",
        "in": "header",
        "description": "as the query of a URL: endpoint (describe or detect), key; beside an image alone, the fields",
        "schema": {"type": "string"},
    }
]

router = APIRouter(tags=["sagemaker"])


def integration(settings: Settings) -> Integration:
    """The integration `sagemaker`."""
    paths = ("/ping", "/invocations")
    surface = Surface("sagemaker", paths, open_paths=frozenset({"/ping"}), key_of=_key_of, key_members=("key",))
    return Integration(surface, router)


@router.get("/ping", summary="SageMaker: can the service describe regions?")
async def ping(engine: CurrentEngine) -> Response:
    """As /readyz, without a body."""
    engine.require_ready()
    return Response()


@router.post(
    "/invocations",
    summary="SageMaker: describe or find regions",
    openapi_extra={**DESCRIBE_EXTRA, "parameters": _PARAMETERS},
)
async def invocations(
    request: Request, engine: CurrentEngine, settings: CurrentSettings, buffer: CurrentBuffer
) -> Response:
    """As /v1/describe, or as /v1/detect where `endpoint` is `detect`."""
    read = partial(_read, _attributes(request.headers))
    return await respond(request, engine, settings, buffer, read, partial(_answer, request), _check_headers)


def _attributes(headers: Headers) -> list[tuple[str, str]]:
    """The client's own header, as the query of a URL."""
    return parse_qsl(headers.get(ATTRIBUTES, ""), keep_blank_values=True)


def _key_of(headers: Headers) -> str | None:
    return dict(_attributes(headers)).get("key")


def _check_headers(content_type: str, content_encoding: str) -> None:
    check_headers(_service_type(content_type), content_encoding)


def _service_type(content_type: str) -> str:
    """The content type as the service's own routes know it."""
    return "image/unknown" if media_type(content_type) in IMAGE_TYPES else content_type


def _read(
    attributes: list[tuple[str, str]],
    body: bytes,
    content_type: str,
    settings: Settings,
    query: str,
    resolve: ResolveVocabulary,
) -> Parsed:
    """A request in any of its forms. A query of the URL's comes before the header; the platform passes none on."""
    given = parse_qsl(query, keep_blank_values=True) or attributes
    of_image = urlencode([each for each in given if each[0] not in ("endpoint", "key")])
    endpoint: Any = dict(given).get("endpoint")
    if media_type(content_type) == JSON:
        return _read_json(endpoint, body, settings, resolve)
    read = read_detect_request if endpoint_of(endpoint, "/endpoint") == "detect" else read_request
    return read(body, _service_type(content_type), settings, of_image, resolve)


def _read_json(endpoint: str | None, body: bytes, settings: Settings, resolve: ResolveVocabulary) -> Parsed:
    parsed = parse_json(body, settings.max_json_values)
    document = parsed.document
    if isinstance(document, dict):
        endpoint = document.get("endpoint", endpoint)
        document = {name: value for name, value in document.items() if name not in ("endpoint", "key")}
    posted = PostedForm(document, parsed.bytes_of)
    if endpoint_of(endpoint, "/endpoint") == "detect":
        return read_detection(posted, settings, resolve)
    if is_about_several(document):
        return read_images(posted, settings, resolve)
    return read_single(posted, settings, resolve)


async def _answer(request: Request, parsed: Parsed, lease: Lease, context: RequestContext) -> Response:
    return json_response(*await answer_parsed(request, parsed, lease, context, as_json))
