"""Keys: every route but the probes refuses without one."""

import pytest

from .conftest import Opener, flaws

KEYS = {"api_keys": "first,second"}


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics", "/v1/models", "/nothing"])
def test_routes_want_a_key(opened: Opener, path: str) -> None:
    response = opened(**KEYS).client.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert flaws(response) == {}


@pytest.mark.parametrize("value", ["", "first", "Basic first", "Bearer", "Bearer third", "Bearer first second"])
def test_wrong_keys(opened: Opener, value: str) -> None:
    ask = opened(**KEYS)
    assert ask.raw(b"{}", authorization=value).status_code == 401


@pytest.mark.parametrize("value", ["Bearer first", "bearer second"])
def test_right_keys(opened: Opener, value: str) -> None:
    ask = opened(**KEYS)
    assert ask.client.get("/v1/models", headers={"authorization": value}).status_code == 200


def test_probes_are_open(opened: Opener) -> None:
    client = opened(**KEYS).client
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def test_keys_outside_of_ascii_are_wrong_not_a_crash(opened: Opener) -> None:
    client = opened(**KEYS).client
    assert client.get("/v1/models", headers=[(b"authorization", "Bearer é".encode())]).status_code == 401
