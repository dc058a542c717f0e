"""Error answers -> exceptions."""

import json
import pickle
from typing import Any

import pytest

from dynrefer.model.errors import ImageError, QueryError
from dynrefer.service.client.errors import (
    DeadlinePassed,
    FieldProblem,
    ImageRefused,
    InvalidRequest,
    NotFound,
    NotReady,
    ProblemError,
    ServerFailed,
    ServerTooSlow,
    TooBusy,
    Unauthorized,
)
from dynrefer.service.client.refusals import problem_of_answer, problem_of_region

HEADERS = {"x-request-id": "req_7", "retry-after": "2"}


def refused(status: int, **members: Any) -> ProblemError:
    document = {"type": "urn:problem-type:dynrefer:a", "title": "T", "status": status, "detail": "D.", **members}
    return problem_of_answer(status, HEADERS, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthorized),
        (404, NotFound),
        (405, InvalidRequest),
        (413, ImageRefused),
        (415, ImageRefused),
        (422, InvalidRequest),
        (429, TooBusy),
        (500, ServerFailed),
        (502, ServerFailed),
        (503, NotReady),
        (504, DeadlinePassed),
        (507, ServerFailed),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[ProblemError]) -> None:
    error = refused(status)
    assert type(error) is kind
    assert (error.status, error.type, error.title, error.detail) == (status, "urn:problem-type:dynrefer:a", "T", "D.")
    assert (error.request_id, error.retry_after, error.errors) == ("req_7", 2.0, ())


def test_a_bad_region_is_the_query_error_that_the_model_raises() -> None:
    error = refused(422, errors=[{"pointer": "/regions/3/mask/png", "detail": "It is damaged."}])
    assert isinstance(error, InvalidRequest) and isinstance(error, QueryError)
    assert (error.index, error.field) == (3, "mask/png")
    assert error.errors == (FieldProblem("/regions/3/mask/png", "It is damaged."),)


def test_a_bad_field_of_the_request_has_no_index() -> None:
    error = refused(422, errors=[{"pointer": "/top_k", "detail": "Too many."}])
    assert isinstance(error, InvalidRequest) and (error.index, error.field) == (None, "top_k")


def test_a_bad_image_is_the_image_error_that_the_model_raises() -> None:
    error = refused(422, errors=[{"pointer": "/image", "detail": "It is damaged."}])
    assert isinstance(error, ImageRefused) and isinstance(error, ImageError) and not isinstance(error, QueryError)
    assert isinstance(refused(422, errors=[{"pointer": "/image/url", "detail": "Not allowed."}]), InvalidRequest)


def test_a_deadline_is_a_slow_server_too() -> None:
    assert isinstance(refused(504), ServerTooSlow)


def test_several_fields_are_all_said() -> None:
    errors = [{"pointer": f"/regions/{place}/box", "detail": "Empty."} for place in range(5)]
    error = refused(422, detail="The request has 5 errors.", errors=errors)
    assert str(error) == (
        "The request has 5 errors. /regions/0/box: Empty. /regions/1/box: Empty. /regions/2/box: Empty. and 2 more."
    )
    assert len(error.errors) == 5


@pytest.mark.parametrize("body", [b"", b"<html>Bad\n gateway</html>", b"[1]", b'{"detail": 3}', b"\xff\xfe"])
def test_an_error_of_another_program(body: bytes) -> None:
    error = problem_of_answer(502, {}, body)
    assert type(error) is ServerFailed and error.status == 502
    assert "502 Bad Gateway" in error.detail and "\n" not in error.detail
    assert problem_of_answer(599, {}, body).status == 599


def test_what_another_program_says_is_shown_in_part() -> None:
    error = problem_of_answer(502, {}, b"a proxy " * 1000)
    assert "a proxy" in error.detail and len(error.detail) < 400


@pytest.mark.parametrize("document", [{"errors": "all"}, {"errors": [1]}, {"errors": [{}]}, {"title": None}])
def test_a_malformed_problem_is_still_one(document: dict[str, Any]) -> None:
    assert refused(422, **document).detail == "D."


def test_a_region_that_failed_alone() -> None:
    error = problem_of_region({"type": "t", "title": "T", "status": 500, "detail": "It failed.", "errors": []}, "req_1")
    assert type(error) is ServerFailed and error.request_id == "req_1"


@pytest.mark.parametrize("status", [422, 429, 504])
def test_errors_travel_between_processes(status: int) -> None:
    error = refused(status, errors=[{"pointer": "/regions/1/box", "detail": "Empty."}])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and vars(again) == vars(error) and str(again) == str(error)
