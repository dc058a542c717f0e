"""Answers as predictions, in the order of the instances, and errors in the form of Google's interfaces (AIP-193)."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from dynrefer.model import MOST_LOOKS, ImageError, QueryError
from dynrefer.service.api.answering import describe_images, find_regions
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.images_schemas import DescribeImagesResponse
from dynrefer.service.api.posting import json_response
from dynrefer.service.api.problems import ToldProblem, image_problem, no_hint
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.all_or_first_error import all_or_first_error
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import BodyTooLargeError, InvalidRequestError
from dynrefer.service.inputs.bodies import Lease
from dynrefer.service.inputs.description import ParsedImages
from dynrefer.service.inputs.detection import ParsedDetection
from dynrefer.service.integrations.vertex.instances import ParsedInstances, Searches
from dynrefer.service.settings import Settings

# Google's names of kinds of errors, by the HTTP status.
STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_RPC = "type.googleapis.com/google.rpc."
# What is an image's own fault; of several to be described the engine decides so (`describe_each`).
_OF_AN_IMAGE = (QueryError, ImageError, InvalidRequestError, BodyTooLargeError)


def write_problem(problem: ToldProblem) -> Response:
    """{"error": {code, message, status, details}}. A request that is not valid is 400, as at Google, and no 422."""
    status = 400 if problem.kind.status == 422 else problem.kind.status
    details: list[dict[str, Any]] = [{"@type": _RPC + "RequestInfo", "requestId": problem.request_id}]
    if problem.fields:
        flaws = [{"field": each.pointer, "description": each.detail} for each in problem.fields]
        details.append({"@type": _RPC + "BadRequest", "fieldViolations": flaws})
    error = {
        "code": status,
        "message": problem.detail,
        "status": STATUSES.get(status, "UNKNOWN"),
        "details": details,
    }
    return JSONResponse({"error": error}, status, dict(problem.headers))


async def answer(request: Request, parsed: ParsedInstances, lease: Lease, context: RequestContext) -> Response:
    """The predictions."""
    if isinstance(parsed.asked, ParsedImages):
        return json_response(*await describe_images(request, parsed.asked, lease, context, _described))
    predictions = await _found(request, parsed.asked, lease, context)
    return json_response(_written(predictions), None)


def _described(answered: DescribeImagesResponse) -> bytes:
    return _written([_prediction(each) for each in answered.images])


async def _found(request: Request, searches: Searches, lease: Lease, context: RequestContext) -> list[dict[str, Any]]:
    """What each image shows, or why there is nothing. As many are searched at the same time as have room in the queue
    together; one model answers all.
    """
    engine: Engine = request.app.state.engine
    under_way = asyncio.Semaphore(_at_once(searches, request.app.state.settings))

    async def one(place: int, search: ParsedDetection | Exception) -> dict[str, Any]:
        try:
            if isinstance(search, Exception):
                raise search
            async with under_way:
                return (await find_regions(request, search, lease, context, _found_prediction, model))[0]
        except _OF_AN_IMAGE as error:
            return {"error": image_problem(error, f"/instances/{place}", no_hint).model_dump(mode="json")}

    with engine.model() as model:  # an error of the whole request, such as a full queue, cancels the others
        return await all_or_first_error([one(place, search) for place, search in enumerate(searches)])


def _at_once(searches: Searches, settings: Settings) -> int:
    """How many searches the caller's part of the queue holds, each with room for all that it may find."""
    room = [1 + max(each.query.max_regions, MOST_LOOKS) for each in searches if isinstance(each, ParsedDetection)]
    return max(1, (settings.key_regions or settings.max_queue_regions) // max(room, default=1))


def _found_prediction(answered: DetectResponse) -> dict[str, Any]:
    members = _prediction(answered)
    del members["id"], members["model"]  # of a request of its own
    return members


def _prediction(answered: BaseModel) -> dict[str, Any]:
    """A record as JSON; pointers in it lead into the instances."""
    members: dict[str, Any] = answered.model_dump(mode="json", exclude_none=True)
    for failed in (members, *members.get("regions", ())):
        for flaw in failed.get("error", {}).get("errors", ()):
            flaw["pointer"] = flaw["pointer"].replace("/images/", "/instances/", 1)
    return members


def _written(predictions: list[dict[str, Any]]) -> bytes:
    return json.dumps({"predictions": predictions}, ensure_ascii=False).encode()
