"""The table from errors to HTTP: every error of the service has a row, and no other error reveals its message."""

import json

import pytest
from starlette.exceptions import HTTPException

from dynrefer.model import (
    BoxError,
    ConfigError,
    DamagedImageError,
    ImageTooLargeError,
    UnsupportedImageError,
    ViewsError,
)
from dynrefer.model.errors import AnnotatedImageError
from dynrefer.service import errors
from dynrefer.service.api.problems import TABLE, problem_response, told
from dynrefer.service.errors import InvalidRequestError, QueueFullError, ServiceError


def leaves(kind: type[Exception]) -> list[type[Exception]]:
    """The subclasses that have no subclass of their own."""
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return below or [kind]


def test_every_error_has_its_own_row() -> None:
    own = [kind for kind in leaves(ServiceError) if kind.__module__ == errors.__name__]
    assert own and set(own) <= set(TABLE)
    assert all(kind.__name__ in str(errors.__doc__) for kind in own)


def test_errors_of_integrations_are_kinds_of_the_services_own() -> None:
    from dynrefer.service.integrations.label_studio.client import ImageNotFetched

    assert ImageNotFetched in leaves(ServiceError)
    for kind in leaves(ServiceError):
        assert next(each for each in kind.__mro__ if each in TABLE) is not Exception


@pytest.mark.parametrize(
    ("error", "status", "pointer"),
    [
        (BoxError("The box is empty."), 422, "/regions/3/box"),
        (ViewsError("Three views."), 422, "/views"),
        (InvalidRequestError.at("/task", "No."), 422, "/task"),
        (DamagedImageError("The image is damaged."), 422, "/image"),
    ],
)
def test_pointers(error: Exception, status: int, pointer: str) -> None:
    error.index = 3  # type: ignore[attr-defined]
    response = problem_response(told(error, "req_1"))
    assert response.status_code == status
    assert [each["pointer"] for each in json.loads(bytes(response.body))["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (ImageTooLargeError("The image has 9 x 9 pixels."), 413, "image-too-large"),
        (UnsupportedImageError("The image is a text."), 415, "unsupported-media"),
    ],
)
def test_image_errors_without_a_pointer(error: Exception, status: int, slug: str) -> None:
    response = problem_response(told(error, "req_1"))
    problem = json.loads(bytes(response.body))
    assert (response.status_code, problem["detail"]) == (status, str(error))
    assert problem["type"] == f"urn:problem-type:dynrefer:{slug}" and "errors" not in problem


@pytest.mark.parametrize(
    "error",
    [KeyError("/etc/passwd"), ConfigError("/etc/passwd"), MemoryError("/etc"), AnnotatedImageError("no image /etc")],
)
def test_what_is_not_for_clients_is_not_revealed(error: Exception) -> None:
    response = problem_response(told(error, "req_1"))
    assert response.status_code == 500 and b"/etc" not in response.body


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.2, "2"), (30.0, "30")])
def test_retry_after_is_whole_seconds(seconds: float, header: str) -> None:
    assert problem_response(told(QueueFullError("Full.", seconds), "req_1")).headers["retry-after"] == header


def test_errors_of_the_framework() -> None:
    response = problem_response(told(HTTPException(405, headers={"Allow": "POST"}), "req_1"))
    assert response.status_code == 405 and response.headers["allow"] == "POST"
