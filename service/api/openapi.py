"""The parts of the OpenAPI document that FastAPI cannot derive: the request forms and the problem documents."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from dynrefer.service.api.converse_schemas import EVENTS, ConverseFields, ConverseRequest, DeltaOut
from dynrefer.service.api.detect_schemas import DetectFields, DetectRequest
from dynrefer.service.api.document_schemas import FILE, REFERENCE, reference, understood
from dynrefer.service.api.examples import add_examples, operations
from dynrefer.service.api.images_schemas import DescribeImagesFields, DescribeImagesRequest
from dynrefer.service.api.problems import PROBLEM_JSON, Problem
from dynrefer.service.api.reload_schemas import ReloadRequest
from dynrefer.service.api.schemas import DescribeFields, DescribeRequest
from dynrefer.service.server.auth import ADMIN_PATHS, PROBES
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


def _problem(description: str, *headers: str) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model="Problem")}
    entry: dict[str, Any] = {"description": description, "content": {PROBLEM_JSON: {"schema": schema}}}
    if headers:
        entry["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    return entry


PROBLEMS: Mapping[int, dict[str, Any]] = {
    401: _problem("Keys are configured, and none or a wrong one was given", "WWW-Authenticate"),
    403: _problem("The key is not an administrator's"),
    404: _problem("Nothing has this name"),
    409: _problem("It cannot be done now: a model is being loaded already, or there is no previous one"),
    413: _problem("The body has too many bytes or the image too many pixels"),
    415: _problem("Not an accepted image format, content type or content encoding"),
    422: _problem("A field is not valid; `errors` points at it"),
    429: _problem("The queue has no room for the whole request", "Retry-After"),
    500: _problem("The model failed, and `errors` points at the regions; or something else did on the server's side"),
    503: _problem("Not ready, shutting down, or the device is lost", "Retry-After"),
    504: _problem("The deadline passed"),
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


def _forms(requests: Sequence[str], form: str, query: str) -> dict[str, Any]:
    """A route whose body has three forms, by the names of schemas: of a JSON request, of a multipart form, and of the
    query beside an image that comes alone.

    The query is one object: most of its members say nothing beside the other forms, which ignore them.
    """
    fields = {
        "name": "fields",
        "in": "query",
        "style": "form",
        "explode": True,
        "description": "the fields of the request, each a parameter of its own, where the body is the image alone "
        "(`image/*`); other bodies hold their fields themselves",
        "schema": reference(query),
    }
    return {
        "parameters": [*_PARAMETERS, fields],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": reference(*requests)},
                "multipart/form-data": {
                    "schema": reference(form),
                    "encoding": {"request": {"contentType": "application/json"}},
                },
                "image/*": {"schema": FILE},
            },
        },
    }


DESCRIBE_EXTRA = _forms(("DescribeRequest", "DescribeImagesRequest"), "DescribeForm", "DescribeQuery")
RELOAD_EXTRA: dict[str, Any] = {
    "parameters": _PARAMETERS[:2],
    "requestBody": {"required": True, "content": {"application/json": {"schema": reference("ReloadRequest")}}},
}
DETECT_EXTRA = _forms(("DetectRequest",), "DetectForm", "DetectQuery")
CONVERSE_EXTRA = _forms(("ConverseRequest",), "ConverseForm", "ConverseQuery")
# What a streamed answer is; OpenAPI 3.1 has no schema of events.
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            EVENTS: {
                "schema": {
                    "type": "string",
                    "description": "events `delta` with the data `DeltaOut`; then `done` with `ConverseResponse`, or "
                    "`error` with `Problem`",
                }
            }
        }
    }
}


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
            (ConverseRequest, "validation"),
            (ConverseFields, "validation"),
            (DeltaOut, "serialization"),
            (ReloadRequest, "validation"),
            (Problem, "serialization"),
        ],
        ref_template=REFERENCE,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(extra["$defs"])
    _drop_validation_errors(found)
    found["components"]["schemas"] = understood(schemas)
    add_examples(found)
    of_admins = [found["paths"][path] for path in ADMIN_PATHS if path in found["paths"]]
    if with_keys or of_admins:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for item in of_admins:
        for operation in item.values():
            operation["security"] = [{"key": []}]
    if with_keys:
        found["security"] = [{"key": []}]
        for path in PROBES:
            found["paths"][path]["get"]["security"] = []
    return found


def _drop_validation_errors(document: dict[str, Any]) -> None:
    """Take out FastAPI's own 422, which it adds to every route with a parameter: ours are problems."""
    for _, operation in operations(document):
        if "application/json" in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
