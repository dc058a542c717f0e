"""Keys in bodies, for platforms that pass no header on; and integrations that leave it to the platform who calls."""

import json
import logging
from typing import Any

import pytest
from fastapi import Request, Response

from dynrefer.service.api.dependencies import request_context
from dynrefer.service.errors import QueueFullError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.observability.logs import JsonFormatter
from dynrefer.service.server.auth import UNIDENTIFIED
from dynrefer.service.settings import Settings, SettingsError, load_settings
from tests.service.conftest import ApiFactory, field_errors, image_bytes, in_base64, one_region

# SageMaker passes on a body and its content type.
BODY = {"image": {"base64": in_base64(image_bytes())}, **one_region()}
ON = {"integrations": "sagemaker", "api_keys": "first,second"}


@pytest.mark.parametrize("key", ["first", "second"])
def test_a_key_in_the_body_is_one(make_api: ApiFactory, key: str, caplog: pytest.LogCaptureFixture) -> None:
    client = make_api(**ON).client
    with caplog.at_level(logging.INFO, logger="service.access"):
        assert client.post("/invocations", json={**BODY, "key": key}).status_code == 200
    logged = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    names = [each["key"] for each in logged if each.get("route") == "/invocations"]
    assert names == [{"first": "setting-1", "second": "setting-2"}[key]]
    assert key not in [text for each in logged for text in map(str, each.values())]


@pytest.mark.parametrize("key", [{}, {"key": "third"}, {"key": ""}, {"key": None}, {"key": ["first"]}, {"key": 1}])
def test_without_a_valid_key_nothing_is_answered(make_api: ApiFactory, key: dict[str, Any]) -> None:
    api = make_api(**ON)
    refused = api.client.post("/invocations", json={**BODY, **key})
    assert refused.status_code == 401 and field_errors(refused) == {}
    assert "or as 'key' of a JSON body" in refused.json()["detail"]
    assert not api.predictor.batches


def test_what_is_no_json_is_not_read_for_a_key(make_api: ApiFactory) -> None:
    client = make_api(**ON).client
    headers = {"content-type": "image/png"}
    assert client.post("/invocations", content=image_bytes(), headers=headers).status_code == 401
    large = b"x" * 1_000_000
    assert client.post("/invocations", content=large, headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/v1/describe", "/v1/detect", "/nothing"])
def test_other_surfaces_take_no_key_from_a_body(make_api: ApiFactory, path: str) -> None:
    assert make_api(**ON).client.post(path, json={**BODY, "key": "first"}).status_code == 401


def test_a_wrong_key_in_the_header_is_not_made_good_by_the_body(make_api: ApiFactory) -> None:
    headers = {"authorization": "Bearer wrong"}
    refused = make_api(**ON).client.post("/invocations", json={**BODY, "key": "first"}, headers=headers)
    assert refused.status_code == 401


def test_limits_hold_before_a_key_is_read(make_api: ApiFactory) -> None:
    client = make_api(**ON, max_body_bytes=1_024).client
    assert client.post("/invocations", json={**BODY, "key": "first", "x": "y" * 2_000}).status_code == 413
    assert client.post("/invocations", content=b"{", headers={"content-type": "application/json"}).status_code == 422


def test_a_route_that_forgets_the_key_answers_nobody(make_api: ApiFactory) -> None:
    api = make_api(**ON)
    reached = []

    async def forgetful(request: Request) -> Response:
        reached.append(request.state.key)
        return Response(b"secret", headers={"x-secret": "yes"})

    async def curious(request: Request) -> Response:
        request_context(request, request.app.state.settings)
        return Response(b"secret")

    app: Any = api.client.app
    for route in (forgetful, curious):
        app.add_api_route("/invocations", route, methods=["POST"])
        app.router.routes.insert(0, app.router.routes.pop())
        refused = api.client.post("/invocations", json=BODY)
        assert refused.status_code == 401 and "secret" not in refused.text and "x-secret" not in refused.headers
        named = api.client.post("/invocations", json=BODY, headers={"authorization": "Bearer first"})
        assert named.text == "secret"
        app.router.routes.pop(0)
    assert reached == [UNIDENTIFIED, "setting-1"]


@pytest.mark.parametrize("keys", ["one", "one,two"])
def test_callers_without_a_key_yet_never_hold_all_of_the_buffer(keys: str) -> None:
    settings = Settings(api_keys=keys, max_body_bytes=1_024, max_buffered_bytes=4_096)
    assert settings.unidentified_buffered_bytes == 2_048
    buffer = Buffer(4_096, 0, max_bytes_of={UNIDENTIFIED: 2_048})
    lease = buffer.lease(UNIDENTIFIED)
    lease.add(2_048)
    with pytest.raises(QueueFullError):
        buffer.lease(UNIDENTIFIED).add(1)
    buffer.lease("setting-1").add(2_048)


def test_a_lease_passes_to_the_key_that_was_read() -> None:
    buffer = Buffer(4_096, 1_024, max_bytes_of={UNIDENTIFIED: 2_048})
    with buffer.lease(UNIDENTIFIED) as lease:
        lease.add(1_000)
        lease.pass_to("first")
        buffer.lease(UNIDENTIFIED).add(2_048)
        with pytest.raises(QueueFullError):
            lease.add(100)
    with buffer.lease(UNIDENTIFIED) as lease, pytest.raises(QueueFullError):
        lease.pass_to("second")
        lease.add(1_025)
    assert buffer.held_bytes == 2_048


def test_a_body_counts_as_unidentified_until_its_key_is_read(make_api: ApiFactory) -> None:
    api = make_api(**ON, max_body_bytes=1_024, max_buffered_bytes=2_048)
    buffer: Buffer = api.client.app.state.buffer  # type: ignore[attr-defined]
    with buffer.lease(UNIDENTIFIED) as others:
        others.add(1_000)
        assert api.client.post("/invocations", json={**BODY, "key": "first"}).status_code == 429
        assert api.client.post("/invocations", json=BODY, headers={"authorization": "Bearer first"}).status_code == 200
    assert api.client.post("/invocations", json={**BODY, "key": "first"}).status_code == 200
    assert buffer.held_bytes == 0


def test_a_keyless_integration_needs_no_key_and_the_others_do(make_api: ApiFactory) -> None:
    client = make_api(**ON, keyless_integrations="sagemaker").client
    for headers in ({}, {"authorization": "Bearer of-the-platform"}):
        assert client.post("/invocations", json=BODY, headers=headers).status_code == 200
    for path in ("/v1/describe", "/metrics", "/nothing"):
        assert client.post(path, json=BODY).status_code == 401


def test_the_log_names_the_caller_of_a_keyless_integration(
    make_api: ApiFactory, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_api(**ON, keyless_integrations="sagemaker").client
    with caplog.at_level(logging.INFO, logger="service.access"):
        client.post("/invocations", json=BODY)
        client.post("/invocations", json=BODY, headers={"authorization": "Bearer second"})
    logged = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [each["key"] for each in logged if each.get("route") == "/invocations"] == ["(sagemaker)", "setting-2"]


def test_only_what_is_switched_on_can_be_keyless() -> None:
    with pytest.raises(SettingsError, match="keyless_integrations names sagemaker, which integrations does not switch"):
        load_settings({"keyless_integrations": "sagemaker"})
    with pytest.raises(SettingsError, match="--keyless-integrations 'sage' is invalid: 'sage' is none of"):
        load_settings({"keyless_integrations": "sage"})
