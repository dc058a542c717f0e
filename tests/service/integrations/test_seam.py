"""What all integrations have in common: off unless switched on, and inside the core's keys, limits, metrics and log."""

import json
import logging

import pytest
from starlette.datastructures import Headers

from dynrefer.service.api.surfaces import CORE, Surface, Surfaces
from dynrefer.service.observability.logs import JsonFormatter
from dynrefer.service.settings import INTEGRATIONS, SettingsError, load_settings
from tests.service.conftest import ApiFactory, image_bytes, in_base64, one_region

BODY = {"image": {"base64": in_base64(image_bytes())}, **one_region()}


def test_a_path_belongs_to_one_surface() -> None:
    below, exact = Surface("below", ("/below/",)), Surface("exact", ("/exact",))
    surfaces = Surfaces([below, exact])
    assert surfaces.of("/below/a/b") is below and surfaces.of("/below") is CORE
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


def test_keys_are_the_cores(make_api: ApiFactory) -> None:
    client = make_api(integrations="sagemaker", api_keys="sesame").client
    assert client.get("/ping").status_code == 200
    assert client.post("/invocations", json=BODY).status_code == 401
    assert client.post("/invocations", json=BODY, headers={"authorization": "Bearer sesame"}).status_code == 200


def test_the_limit_of_a_body_is_the_cores(make_api: ApiFactory) -> None:
    client = make_api(integrations="sagemaker", max_body_bytes=1_024, max_image_pixels=100).client
    assert client.post("/invocations", json={**BODY, "task": " " * 2_000}).status_code == 413


def test_metrics_and_log_name_the_surface(make_api: ApiFactory, caplog: pytest.LogCaptureFixture) -> None:
    client = make_api(integrations="sagemaker").client
    with caplog.at_level(logging.INFO, logger="service.access"):
        client.post("/invocations", json=BODY)
        client.post("/v1/describe", json=BODY)
    lines = client.get("/metrics").text.splitlines()
    for route, surface in (("/invocations", "sagemaker"), ("/v1/describe", "api")):
        assert f'dynrefer_requests_total{{outcome="ok",route="{route}",surface="{surface}"}} 1.0' in lines
    logged = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [each.get("surface") for each in logged if each.get("route") in ("/invocations", "/v1/describe")] == [
        "sagemaker",
        None,
    ]
