"""The parts of the OpenAPI document that FastAPI cannot derive: the request forms and the problem documents."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from dynrefer.service.api.detect_schemas import DetectFields, DetectRequest
from dynrefer.service.api.images_schemas import DescribeImagesFields, DescribeImagesRequest
from dynrefer.service.api.problems import PROBLEM_JSON, TABLE, Problem, problem_document
from dynrefer.service.api.schemas import DescribeFields, DescribeRequest
from dynrefer.service.errors import (
    BodyTooLargeError,
    DeadlineExceeded,
    FieldError,
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    RegionFailedError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaError,
)
from dynrefer.service.server.auth import PROBES
from dynrefer.service.server.request_log import REQUEST_ID

# The version of the HTTP contract, not of the package.
API_VERSION = "1.0.0"
TITLE = "DynRefer"
DESCRIPTION = (
    "Describes image regions: post an image and boxes, get captions, tags, attributes and categories with "
    "scores and with the nested views that the model looked at. Every error is a problem document (RFC 9457)."
)
# The folder of the document's own address, also behind a proxy's path prefix; without it the paths would be the host's.
SERVERS = [{"url": "."}]
_REFERENCES = "#/components/schemas/{model}"


def _problem(kind: type[Exception], description: str, *headers: str) -> dict[str, Any]:
    problem = TABLE[kind]
    detail, field_errors = description + ".", []
    if problem.status == 422:
        detail = "The box lies wholly outside the image."
        field_errors = [FieldError("/regions/0/box", detail)]
    example = problem_document(problem, detail, "req_9f1c2ab04de84f6b", field_errors)
    schema = {"$ref": _REFERENCES.format(model="Problem")}
    entry: dict[str, Any] = {
        "description": description,
        "content": {PROBLEM_JSON: {"schema": schema, "example": example}},
    }
    if headers:
        entry["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    return entry


PROBLEMS: Mapping[int, dict[str, Any]] = {
    401: _problem(UnauthorizedError, "Keys are configured, and none or a wrong one was given", "WWW-Authenticate"),
    404: _problem(NotFoundError, "Nothing has this name"),
    413: _problem(BodyTooLargeError, "The body has too many bytes or the image too many pixels"),
    415: _problem(UnsupportedMediaError, "Not an accepted image format, content type or content encoding"),
    422: _problem(InvalidRequestError, "A field is not valid; `errors` points at it"),
    429: _problem(QueueFullError, "The queue has no room for the whole request", "Retry-After"),
    500: _problem(RegionFailedError, "The model failed; `errors` points at the regions"),
    503: _problem(UnavailableError, "Not ready, shutting down, or the device is lost", "Retry-After"),
    504: _problem(DeadlineExceeded, "The deadline passed"),
}

# What the signatures of routes do not show: their headers and their forms of body.
_PARAMETERS = [
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": f"used as the answer's id if it matches `{REQUEST_ID.pattern}`; otherwise one is made",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "a shorter deadline than the server's, in seconds",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    {
        "name": "Accept-Language",
        "in": "header",
        "description": "languages of the answer's names, where the request has no `language`",
        "schema": {"type": "string"},
    },
]


_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}


def _forms(requests: Sequence[str], *forms: dict[str, Any]) -> dict[str, Any]:
    """A route whose body has three forms. requests: the schemas of a JSON request. forms: those of multipart forms."""
    return {
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _one_of([{"$ref": _REFERENCES.format(model=each)} for each in requests])
                },
                "multipart/form-data": {
                    "schema": _one_of(forms),
                    "encoding": {"request": {"contentType": "application/json"}},
                },
                "image/*": {"schema": _FILE},
            },
        },
    }


def _multipart(image: dict[str, Any], fields: str) -> dict[str, Any]:
    """The schema of a form. image: of its part `image`. fields: the name of the schema of its part `request`."""
    return {
        "type": "object",
        "required": ["image", "request"],
        "additionalProperties": False,
        "properties": {"image": image, "request": _reference(fields)},
    }


def _reference(schema: str) -> dict[str, Any]:
    return {"$ref": _REFERENCES.format(model=schema)}


def _one_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


DESCRIBE_EXTRA = _forms(
    ("DescribeRequest", "DescribeImagesRequest"),
    _multipart(_FILE, "DescribeFields"),
    _multipart({"type": "array", "items": _FILE, "minItems": 1}, "DescribeImagesFields"),
)
DETECT_EXTRA = _forms(("DetectRequest",), _multipart(_FILE, "DetectFields"))


def pick(problems: Mapping[int, dict[str, Any]], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses that a route may give."""
    return {status: problems[status] for status in statuses}


def mount_document(app: FastAPI, with_keys: bool) -> None:
    """Add /openapi.json. The document is made once, for the first who asks, and has an ETag to ask again with.

    with_keys: whether every route but the probes requires a key.
    """

    @functools.cache
    def made() -> dict[str, Any]:
        return document(app, with_keys)

    @functools.cache
    def encoded() -> tuple[bytes, str]:
        body = json.dumps(made(), ensure_ascii=False, separators=(",", ":")).encode()
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        body, tag = encoded()
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
        if known & {tag, "*"}:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    # FastAPI's documented way to another OpenAPI document: its method is replaced.
    app.openapi = made  # type: ignore[method-assign]


def document(app: FastAPI, with_keys: bool) -> dict[str, Any]:
    """The whole document: FastAPI's, and the schemas that only `inputs/parsing.py` uses.

    with_keys: whether every route but the probes requires a key.
    """
    found = get_openapi(title=TITLE, version=API_VERSION, description=DESCRIPTION, routes=app.routes, servers=SERVERS)
    _, extra = models_json_schema(
        [
            (DescribeRequest, "validation"),
            (DescribeFields, "validation"),
            (DescribeImagesRequest, "validation"),
            (DescribeImagesFields, "validation"),
            (DetectRequest, "validation"),
            (DetectFields, "validation"),
            (Problem, "serialization"),
        ],
        ref_template=_REFERENCES,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(extra["$defs"])
    _drop_validation_errors(found)
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    if with_keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
        for path in PROBES:
            found["paths"][path]["get"]["security"] = []
    return found


def _drop_validation_errors(document: dict[str, Any]) -> None:
    """Take out FastAPI's own 422, which it adds to every route with a parameter: ours are problems."""
    for operation in (each for path in document["paths"].values() for each in path.values()):
        if "application/json" in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
