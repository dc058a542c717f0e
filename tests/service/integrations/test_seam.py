"""What all integrations have in common: off unless switched on, and inside the core's keys, limits, metrics and log."""

import base64
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from dynrefer.service.api.surfaces import CORE, Surface, Surfaces
from dynrefer.service.observability.logs import JsonFormatter
from dynrefer.service.settings import INTEGRATIONS, SettingsError, load_settings
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.service.conftest import ApiFactory, image_bytes, in_base64, one_region
from tests.service.integrations.asked import ASKED, Asked

BODY = {"image": {"base64": in_base64(image_bytes())}, **one_region()}


def test_a_path_belongs_to_one_surface() -> None:
    below = Surface("below", ("/below/",), apart=frozenset({"/below/apart"}))
    exact = Surface("exact", ("/exact",))
    surfaces = Surfaces([below, exact])
    assert surfaces.of("/below/a/b") is below and surfaces.of("/below") is CORE
    assert surfaces.of("/below/apart") is CORE and surfaces.of("/below/apart/a") is below
    assert surfaces.of("/exact") is exact and surfaces.of("/exact/more") is CORE
    assert exact.key_of(Headers({"x-key": "sesame"})) is None


def test_none_is_there_unless_it_is_switched_on(make_api: ApiFactory) -> None:
    client = make_api().client
    assert client.get("/ping").status_code == 404
    assert not [path for path in client.get("/openapi.json").json()["paths"] if "invocations" in path]


def test_one_that_is_switched_on_stands_in_the_openapi_document(make_api: ApiFactory) -> None:
    client = make_api(integrations="sagemaker").client
    assert "/invocations" in client.get("/openapi.json").json()["paths"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=f"--integrations 'sage' is invalid: 'sage' is none of {INTEGRATIONS[0]}"):
        load_settings({"integrations": "sage"})


def client_of(make_api: ApiFactory, asked: Asked, **settings: Any) -> TestClient:
    """An application with the integration switched on."""
    predictor = FakePredictor(finding=FakeFinderSpec())
    return make_api(predictor, integrations=asked.integration, **{**asked.settings, **settings}).client


every = pytest.mark.parametrize("asked", ASKED, ids=str)


def test_every_integration_that_takes_an_image_is_held_to_what_follows() -> None:
    assert {asked.integration for asked in ASKED} >= set(INTEGRATIONS)


@every
def test_keys_are_the_cores(make_api: ApiFactory, asked: Asked) -> None:
    client = client_of(make_api, asked, api_keys="sesame")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic wrong"}):
        refused = client.post(asked.path, json=asked.document, headers=headers)
        assert refused.status_code == 401
        assert asked.said(refused.json())
    for value in ("Bearer sesame", "Basic " + base64.b64encode(b"anyone:sesame").decode()):
        assert client.post(asked.path, json=asked.document, headers={"authorization": value}).status_code == 200


@every
def test_the_limit_of_a_body_is_the_cores(make_api: ApiFactory, asked: Asked) -> None:
    client = client_of(make_api, asked, max_body_bytes=1_024)
    refused = client.post(asked.path, json={**asked.document, "padding": "x" * 2_000})
    assert refused.status_code == 413
    assert "1024" in asked.said(refused.json())


@every
def test_the_limit_of_an_image_is_the_cores(make_api: ApiFactory, asked: Asked) -> None:
    refused = client_of(make_api, asked, max_image_pixels=100).post(asked.path, json=asked.document)
    assert refused.status_code == (200 if asked.flaws_within else 413)
    assert "pixels" in asked.said(refused.json())


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where a connection would arrive."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.setblocking(False)
        yield found


@every
@pytest.mark.parametrize("hosts", ["", "images.example.org"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_address_is_fetched_that_the_settings_do_not_name(
    make_api: ApiFactory, asked: Asked, hosts: str, scheme: str, listener: socket.socket
) -> None:
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/a.png"
    refused = client_of(make_api, asked, image_url_hosts=hosts).post(asked.path, json=asked.with_url(url))
    assert refused.status_code in ((200,) if asked.flaws_within else (400, 422))
    assert asked.said(refused.json())
    with pytest.raises(BlockingIOError):
        listener.accept()


@every
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'"text"', b"null", b"\xff\xfe"])
def test_a_bad_payload_gets_the_surfaces_own_form_of_an_error(make_api: ApiFactory, asked: Asked, body: bytes) -> None:
    client = client_of(make_api, asked)
    refused = client.post(asked.path, content=body, headers={"content-type": "application/json"})
    assert 400 <= refused.status_code < 500
    assert asked.said(refused.json()).endswith(".")


@every
def test_metrics_log_and_document_name_the_surface(
    make_api: ApiFactory, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(make_api, asked)
    with caplog.at_level(logging.INFO, logger="service.access"):
        assert client.post(asked.path, json=asked.document).status_code == 200
        client.post("/v1/describe", json=BODY)
    counted = [line for line in client.get("/metrics").text.splitlines() if line.startswith("dynrefer_requests_total{")]
    assert sum(f'surface="{asked.integration}"}} 1.0' in line for line in counted) == 1
    assert 'dynrefer_requests_total{outcome="ok",route="/v1/describe",surface="api"} 1.0' in counted
    logged = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [each.get("surface") for each in logged if each.get("method") == "POST"] == [asked.integration, None]
    paths = client.get("/openapi.json").json()["paths"].values()
    assert asked.integration in [tag for each in paths for tag in each.get("post", {}).get("tags", [])]


@pytest.mark.filterwarnings("error")
def test_all_may_be_switched_on_together(make_api: ApiFactory) -> None:
    """No two of them have a path or the id of an operation in common."""
    paths = make_api(integrations=",".join(INTEGRATIONS)).client.get("/openapi.json").json()["paths"]
    tags = {tag for path in paths.values() for operation in path.values() for tag in operation["tags"]}
    assert tags >= set(INTEGRATIONS)
