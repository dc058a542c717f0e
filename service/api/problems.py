"""The ONE table from error to HTTP, and the problem documents (RFC 9457) made from it.

A client reads one sentence of ours: no traceback, no path, no text of a library.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from dynrefer.model.errors import (
    DamagedImageError,
    ImageTooCostlyError,
    ImageTooLargeError,
    InvalidQueriesError,
    ModelError,
    QueryError,
    UnsupportedImageError,
)
from dynrefer.service.api.images_schemas import ImageProblem
from dynrefer.service.api.prompt_schemas import PROMPTS
from dynrefer.service.api.schemas import FlawItem, RegionProblem
from dynrefer.service.errors import (
    BodyTooLargeError,
    ConflictError,
    DeadlineExceeded,
    FieldError,
    ForbiddenError,
    InvalidRequestError,
    ModelNotLoadedError,
    NotFoundError,
    QueueFullError,
    RegionFailedError,
    RetryLaterError,
    ServiceError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaError,
    UpstreamError,
)

PROBLEM_JSON = "application/problem+json"
REGION_FAILED = "The model failed on this region."


@dataclass(frozen=True, slots=True)
class ProblemType:
    """How one kind of error is reported over HTTP. slug: the last part of the problem's type."""

    status: int
    slug: str
    title: str


# An error is looked up by its class, then by its bases.
TABLE: dict[type[Exception], ProblemType] = {
    InvalidRequestError: ProblemType(422, "invalid-request", "The request is not valid"),
    QueryError: ProblemType(422, "invalid-request", "The request is not valid"),
    DamagedImageError: ProblemType(422, "invalid-request", "The request is not valid"),
    ImageTooCostlyError: ProblemType(422, "image-too-costly", "The image takes too much work"),
    BodyTooLargeError: ProblemType(413, "body-too-large", "The request body is too large"),
    ImageTooLargeError: ProblemType(413, "image-too-large", "The image has too many pixels"),
    UnsupportedImageError: ProblemType(415, "unsupported-media", "The media type is not supported"),
    UnsupportedMediaError: ProblemType(415, "unsupported-media", "The media type is not supported"),
    ModelNotLoadedError: ProblemType(422, "model-not-loaded", "The model could not be loaded"),
    ForbiddenError: ProblemType(403, "forbidden", "This key does not allow it"),
    ConflictError: ProblemType(409, "conflict", "It cannot be done now"),
    UnauthorizedError: ProblemType(401, "unauthorized", "A valid key is required"),
    NotFoundError: ProblemType(404, "not-found", "Not Found"),
    QueueFullError: ProblemType(429, "queue-full", "The service is at its limit"),
    UnavailableError: ProblemType(503, "unavailable", "The service is not available"),
    DeadlineExceeded: ProblemType(504, "deadline-passed", "The deadline passed"),
    UpstreamError: ProblemType(502, "upstream-failed", "Another service failed"),
    RegionFailedError: ProblemType(500, "region-failed", "A region could not be described"),
    ModelError: ProblemType(500, "internal", "The service failed"),
    Exception: ProblemType(500, "internal", "The service failed"),
}
REGION_FIELDS = (*PROMPTS, "highlight")  # of the model's queries, those that a region has and not the request
# The model's errors whose message is meant for clients.
_ABOUT_THE_REQUEST = (QueryError, ImageTooLargeError, UnsupportedImageError, DamagedImageError, ImageTooCostlyError)


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="what kind of problem this is; stable, made for programs")
    title: str = Field(description="the kind in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="one sentence about this occurrence")
    instance: str = Field(description="this occurrence, by its X-Request-Id")
    errors: list[FlawItem] | None = Field(None, description="the fields at fault")


def no_hint(index: int) -> str:
    """Nothing more is said of a region's box."""
    return ""


def problem_type_of(error: Exception) -> ProblemType:
    """The table's row for an error."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


@dataclass(frozen=True, slots=True)
class ToldProblem:
    """What a client is told of an error, before it is written in the form of the surface that it used.

    fields: those at fault. headers: of the response, such as Retry-After.
    """

    kind: ProblemType
    detail: str
    request_id: str
    fields: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, object]:
        """The members of `Problem`."""
        return problem_document(self.kind, self.detail, self.request_id, self.fields)


def told(error: Exception, request_id: str) -> ToldProblem:
    """What a client is told of any error. Of an unforeseen one it learns nothing but its request id."""
    if isinstance(error, HTTPException):
        return _routing_problem(error, request_id)
    detail, field_errors = _told(error)
    headers = dict(error.headers) if isinstance(error, ServiceError) else {}
    if isinstance(error, RetryLaterError):
        headers["Retry-After"] = str(error.retry_after_s)
    return ToldProblem(problem_type_of(error), detail, request_id, field_errors, headers)


def problem_response(problem: ToldProblem) -> JSONResponse:
    """The problem document, which is the form of the service's own contract."""
    return JSONResponse(problem.document, problem.kind.status, dict(problem.headers), media_type=PROBLEM_JSON)


def _told(error: Exception, hint: Callable[[int], str] = no_hint) -> tuple[str, Sequence[FieldError]]:
    """What the client learns of an error: a sentence, and the fields at fault. hint: see `model_field_errors`."""
    if isinstance(error, ServiceError):
        return error.detail, error.fields
    if isinstance(error, _ABOUT_THE_REQUEST):
        field_errors = model_field_errors(error, hint)
        return str(error) if len(field_errors) != 1 else field_errors[0].detail, field_errors
    return "Something went wrong on our side; the log has this request's id.", ()


def problem_document(
    problem: ProblemType, detail: str, request_id: str, field_errors: Sequence[FieldError] = ()
) -> dict[str, object]:
    """The members of `Problem`; `errors` only where there are any."""
    document: dict[str, object] = {
        "type": _type_uri(problem),
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": f"urn:request:{request_id}",
    }
    if field_errors:
        document["errors"] = [{"pointer": each.pointer, "detail": each.detail} for each in field_errors]
    return document


def is_of_region(error: QueryError) -> bool:
    """Whether the field at fault is a region's and not the request's."""
    return error.field.split("/")[0] in REGION_FIELDS


def model_field_errors(error: ModelError, hint: Callable[[int], str] = no_hint) -> list[FieldError]:
    """Where in the request an error of the model's lies: a box belongs to its region, other fields to the request.

    Empty where the status alone says it: an image that is too large or of another format. hint: of a region's index,
    what is said of its box besides.
    """
    if isinstance(error, DamagedImageError | ImageTooCostlyError):
        return [FieldError("/image", str(error))]
    found: list[FieldError] = []
    for each in error.errors if isinstance(error, InvalidQueriesError) else (error,):
        if not isinstance(each, QueryError):
            continue
        if is_of_region(each) and each.index is not None:
            more = hint(each.index) if each.field == "box" else ""
            found.append(FieldError(f"/regions/{each.index}/{each.field}", f"{each}{more}"))
        else:  # the same of every region
            found.append(FieldError(f"/{each.field}" if each.field else "", str(each)))
    return list(dict.fromkeys(found))


def region_problem(error: Exception, pointer: str, field_errors: Sequence[FieldError] = ()) -> RegionProblem:
    """What the answer has in the place of a region that failed alone. pointer: to it, in the request. field_errors:
    what is known to be wrong."""
    kind = error if isinstance(error, QueryError | ServiceError) else RegionFailedError(REGION_FAILED)
    detail = field_errors[0].detail if field_errors else str(kind)
    flaws = field_errors or [FieldError(pointer, detail)]
    summary = detail if len(flaws) == 1 else f"The region has {len(flaws)} errors."
    return RegionProblem.model_validate(_part_problem(kind, summary, flaws))


def image_problem(error: Exception, pointer: str, hint: Callable[[int], str]) -> ImageProblem:
    """What the answer has in the place of an image that failed alone: the error of a request about that image.

    pointer: to the image's item, in the request. hint: see `model_field_errors`.
    """
    detail, field_errors = _told(error, hint)
    flaws = [FieldError(f"{pointer}{each.pointer}", each.detail) for each in field_errors]
    flaws = flaws or [FieldError(f"{pointer}/image", detail)]
    summary = detail if len(flaws) == 1 else f"The image has {len(flaws)} errors."
    return ImageProblem.model_validate(_part_problem(error, summary, flaws))


def _part_problem(error: Exception, detail: str, flaws: Sequence[FieldError]) -> dict[str, Any]:
    """The members of what stands in the place of a part of the answer."""
    problem = problem_type_of(error)
    errors = [FlawItem(pointer=each.pointer, detail=each.detail) for each in flaws]
    return {
        "type": _type_uri(problem),
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "errors": errors,
    }


def _type_uri(problem: ProblemType) -> str:
    return f"urn:problem-type:dynrefer:{problem.slug}"


def _routing_problem(error: HTTPException, request_id: str) -> ToldProblem:
    """404, 405 and whatever else the framework itself refuses."""
    phrase = HTTPStatus(error.status_code).phrase
    details = {404: "There is nothing at this path.", 405: "This path does not take this method."}
    problem = ProblemType(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    detail = details.get(error.status_code, phrase + ".")
    return ToldProblem(problem, detail, request_id, (), dict(error.headers or {}))
