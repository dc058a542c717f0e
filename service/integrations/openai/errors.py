"""The service's errors in OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, with the statuses that its
clients know: what is wrong with a request is 400.
"""

import re
from collections.abc import Mapping, Sequence

from fastapi import Response
from fastapi.responses import JSONResponse

from dynrefer.service.api.problems import ToldProblem
from dynrefer.service.errors import FieldError

INVALID = "invalid_request_error"
STATUSES: Mapping[int, int] = {415: 400, 422: 400}
# By the status that is sent. Others below 500 are of the type `INVALID`.
TYPES: Mapping[int, str] = {429: "requests"}
CODES: Mapping[str, str | None] = {
    "invalid-request": None,
    "unauthorized": "invalid_api_key",
    "queue-full": "rate_limit_exceeded",
}
MOST_SENTENCES = 5  # of a request with several errors
INDEX = re.compile(r"\.(\d+)(?=\.|\[|$)")


def write_problem(problem: ToldProblem) -> Response:
    """A problem as clients of OpenAI's API read it. The request's id stands in the header X-Request-Id, as theirs does.

    param: the first field at fault, as in `messages[0].content[1].image_url.url`.
    """
    status = STATUSES.get(problem.kind.status, problem.kind.status)
    kind = TYPES.get(status, INVALID if status < 500 else "server_error")
    param = param_of(problem.fields[0].pointer) if problem.fields else None
    error = {"message": _message(problem), "type": kind, "param": param, "code": _code(problem, param)}
    return JSONResponse({"error": error}, status, dict(problem.headers))


def param_of(pointer: str) -> str | None:
    """A JSON pointer as OpenAI names a parameter; None for the whole document."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    # The image of the service's own document: that it is one of the message's parts is all that is known here.
    if parts[:1] == ["image"]:
        return "messages"
    return INDEX.sub(r"[\1]", ".".join(parts)) or None


def _message(problem: ToldProblem) -> str:
    """The sentence; of several errors, the first few with their fields."""
    if len(problem.fields) < 2:
        return problem.detail
    return " ".join([problem.detail, *_listed(problem.fields)])


def _listed(fields: Sequence[FieldError]) -> list[str]:
    named = [f"{param_of(each.pointer) or 'body'}: {each.detail}" for each in fields[:MOST_SENTENCES]]
    return named if len(fields) <= MOST_SENTENCES else [*named, "The others are not listed."]


def _code(problem: ToldProblem, param: str | None) -> str | None:
    if problem.kind.status == 404 and param == "model":
        return "model_not_found"
    return CODES.get(problem.kind.slug, problem.kind.slug.replace("-", "_"))
