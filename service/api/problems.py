"""The ONE table from error to HTTP, and problem documents (RFC 9457) made from it.

A message is one sentence of ours: no trace, path or library's text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from dynrefer.model.errors import ModelError, QueryError
from dynrefer.service.errors import (
    BodyTooLargeError,
    DeadlineError,
    FieldError,
    ImageTooLargeError,
    InvalidRequestError,
    QueueFullError,
    RegionFailedError,
    RetryLaterError,
    ServiceError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaError,
)

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """How one kind of error is told over HTTP. slug: the last part of the problem's type."""

    status: int
    slug: str
    title: str


# The one table. An error is looked up by its class, then by its bases.
TABLE: dict[type[Exception], ProblemType] = {
    InvalidRequestError: ProblemType(422, "invalid-request", "The request is not valid"),
    QueryError: ProblemType(422, "invalid-request", "The request is not valid"),
    BodyTooLargeError: ProblemType(413, "body-too-large", "The request body is too large"),
    ImageTooLargeError: ProblemType(413, "image-too-large", "The image has too many pixels"),
    UnsupportedMediaError: ProblemType(415, "unsupported-media", "The media type is not supported"),
    UnauthorizedError: ProblemType(401, "unauthorized", "A valid key is required"),
    QueueFullError: ProblemType(429, "queue-full", "The service is at its limit"),
    UnavailableError: ProblemType(503, "unavailable", "The service is not available"),
    DeadlineError: ProblemType(504, "deadline-passed", "The deadline passed"),
    RegionFailedError: ProblemType(500, "region-failed", "A region could not be described"),
    ModelError: ProblemType(500, "internal", "The service failed"),
    Exception: ProblemType(500, "internal", "The service failed"),
}


class FlawItem(BaseModel):
    """One thing wrong with the request."""  # its name stands in the OpenAPI document

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request; empty for the whole document")
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="what kind of problem this is; stable, made for programs")
    title: str = Field(description="the kind in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="one sentence about this occurrence")
    instance: str = Field(description="this occurrence, by its X-Request-Id")
    errors: list[FlawItem] | None = Field(None, description="the fields at fault")


def problem_type_of(error: Exception) -> ProblemType:
    """The table's row for an error: its own class first, then its bases."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def problem_response(error: Exception, request_id: str) -> JSONResponse:
    """The problem document of any error. What is not ours tells the client nothing but its request id."""
    if isinstance(error, HTTPException):
        return _routing_problem(error, request_id)
    meaning = problem_type_of(error)
    detail = "Something went wrong on our side; the log has this request's id."
    flaws: Sequence[FieldError] = ()
    headers: dict[str, str] = {}
    if isinstance(error, ServiceError):
        detail, flaws, headers = error.detail, error.flaws, dict(error.headers)
    elif isinstance(error, QueryError):
        detail = str(error)
        flaws = [FieldError(query_pointer(error), detail)]
    if isinstance(error, RetryLaterError):
        headers["Retry-After"] = str(error.retry_after_s)
    return _document(meaning, detail, flaws, request_id, headers)


def problem_type(slug: str) -> str:
    """The stable name of a kind of problem."""
    return f"urn:problem-type:dynrefer:{slug}"


def query_pointer(error: QueryError) -> str:
    """Where in the request a query error lies: a box belongs to its region, all else to the whole request."""
    if error.field == "box" and error.index is not None:
        return f"/regions/{error.index}/box"
    return f"/{error.field}" if error.field else ""


def _routing_problem(error: HTTPException, request_id: str) -> JSONResponse:
    """404, 405 and whatever else the framework itself refuses."""
    phrase = HTTPStatus(error.status_code).phrase
    details = {404: "There is nothing at this path.", 405: "This path does not take this method."}
    meaning = ProblemType(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    detail = details.get(error.status_code, phrase + ".")
    return _document(meaning, detail, (), request_id, dict(error.headers or {}))


def _document(
    meaning: ProblemType, detail: str, flaws: Sequence[FieldError], request_id: str, headers: dict[str, str]
) -> JSONResponse:
    body: dict[str, object] = {
        "type": problem_type(meaning.slug),
        "title": meaning.title,
        "status": meaning.status,
        "detail": detail,
        "instance": f"urn:request:{request_id}",
    }
    if flaws:
        body["errors"] = [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in flaws]
    return JSONResponse(body, meaning.status, headers, media_type=PROBLEM_JSON)


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for everything in the table and for the framework's own refusals."""
    return problem_response(error, request.state.request_id)
