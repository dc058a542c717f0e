"""An answer that is an error -> the exception that says so. The other side of `api/problems.py`."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from dynrefer.service.client.errors import (
    Conflict,
    DeadlinePassed,
    FieldProblem,
    Forbidden,
    ImageRefused,
    InvalidRequest,
    NotFound,
    NotReady,
    ProblemError,
    ServerFailed,
    TooBusy,
    Unauthorized,
)
from dynrefer.service.client.retries import retry_after_s

_BY_STATUS: Mapping[int, type[ProblemError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: ImageRefused,
    415: ImageRefused,
    429: TooBusy,
    503: NotReady,
    504: DeadlinePassed,
}
_IMAGE = (
    "/image"  # where a request fails for its image; of a pointer below it, such as /image/url, the field is to blame
)
_SHOWN = 200  # characters of an answer that is no problem document


def problem_of_answer(status: int, headers: Mapping[str, str], body: bytes) -> ProblemError:
    """The exception of an error answer, whatever wrote it: what lies between may answer with a page of its own."""
    try:
        document = json.loads(body)
    except ValueError:  # also bytes that are no text
        document = None
    known = {"request_id": headers.get("x-request-id"), "retry_after": retry_after_s(headers)}
    if not isinstance(document, dict) or not isinstance(document.get("detail"), str):
        return _unexplained(status, body, **known)
    return _problem(document, status, **known)


def problem_of_region(document: Mapping[str, Any], request_id: str) -> ProblemError:
    """The exception of a region that failed alone, which stands in its place."""
    return _problem(document, int(document["status"]), request_id=request_id)


def problem_of_event(document: Mapping[str, Any]) -> ProblemError:
    """The exception of an answer that failed after it had begun."""
    request_id = str(document.get("instance", "")).removeprefix("urn:request:")
    return _problem(document, int(document["status"]), request_id=request_id or None)


def _problem(document: Mapping[str, Any], status: int, **known: Any) -> ProblemError:
    given = document.get("errors")
    listed = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    errors = [FieldProblem(str(each.get("pointer", "")), str(each.get("detail", ""))) for each in listed]
    kind, title = str(document.get("type", "about:blank")), str(document.get("title", ""))
    make = _kind_of(status, kind, errors)
    return make(document["detail"], status=status, type=kind, title=title, errors=errors, **known)


def _kind_of(status: int, kind: str, errors: list[FieldProblem]) -> type[ProblemError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFailed
    return ImageRefused if errors and errors[0].pointer == _IMAGE else InvalidRequest


def _unexplained(status: int, body: bytes, **known: Any) -> ProblemError:
    """Of an answer that is no problem document: another program's, such as a proxy's."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    said = " ".join(body[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN]
    detail = f"The answer was {phrase}, without a problem document; is this the address of a dynrefer service?"
    make = _kind_of(status, "about:blank", [])
    return make(f"{detail} It began: {said}" if said else detail, status=status, title=phrase, **known)
