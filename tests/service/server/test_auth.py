"""API keys: every route but the probes and the pages responds 401 without a valid one."""

import base64
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dynrefer.service.app import create_app
from dynrefer.service.observability.logs import JsonFormatter
from dynrefer.service.server.auth import new_key
from dynrefer.service.settings import Settings, SettingsError
from tests.fakes import FakePredictor
from tests.service.conftest import ApiFactory, field_errors, image_bytes, in_base64, one_region

KEYS = {"api_keys": "first,second"}


@pytest.mark.parametrize("path", ["/metrics", "/v1/models", "/v1/vocabularies", "/nothing", "/static", "/docs/"])
def test_routes_require_a_key(make_api: ApiFactory, path: str) -> None:
    response = make_api(**KEYS).client.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert field_errors(response) == {}


def basic(password: str, user: str = "anyone") -> str:
    """The header of Basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        *("", "first", "Basic first", "Bearer", "Bearer third", "Bearer first second"),
        *(basic("third"), basic("", "first"), "Basic Zmlyc3Q=", "Basic /w==", "Digest first"),
    ],
)
def test_wrong_keys(make_api: ApiFactory, value: str) -> None:
    api = make_api(**KEYS)
    assert api.raw(b"{}", authorization=value).status_code == 401


@pytest.mark.parametrize("value", ["Bearer first", "bearer second", basic("first"), basic("second", "")])
def test_right_keys(make_api: ApiFactory, value: str) -> None:
    api = make_api(**KEYS)
    assert api.client.get("/v1/models", headers={"authorization": value}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/static/icon.svg", "/static/docs.js"])
def test_pages_and_what_they_load_are_open(make_api: ApiFactory, path: str) -> None:
    """A browser sends no key before somebody has entered one in the page."""
    client = make_api(**KEYS).client
    assert client.get(path).status_code == client.head(path).status_code == 200


def test_no_way_leads_through_the_assets(make_api: ApiFactory) -> None:
    client = make_api(**KEYS).client
    for path in ("/static/../v1/models", "/static/%2e%2e/v1/models", "/static/../__init__.py", "/static//etc/passwd"):
        assert client.get(path).status_code in (401, 404)


def test_probes_are_open(make_api: ApiFactory) -> None:
    client = make_api(**KEYS).client
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def test_keys_outside_of_ascii_are_invalid_not_a_crash(make_api: ApiFactory) -> None:
    client = make_api(**KEYS).client
    assert client.get("/v1/models", headers=[(b"authorization", "Bearer é".encode())]).status_code == 401


def test_keys_from_a_file_are_hashed_there(make_api: ApiFactory, tmp_path: Path) -> None:
    (key, line), (other, second) = new_key("alice"), new_key("bob")
    assert key not in line
    path = tmp_path / "keys"
    path.write_text(f"\ufeff# the clients\n{line}\n\n{second}\n", encoding="utf-8")  # as Windows' editors begin a text
    api = make_api(api_keys_file=path, api_keys="third")
    for good in (key, other, "third"):
        assert api.client.get("/v1/models", headers={"authorization": f"Bearer {good}"}).status_code == 200
    for bad in ("", "alice", line.split()[1], line.split(":")[1]):
        assert api.client.get("/v1/models", headers={"authorization": f"Bearer {bad}"}).status_code == 401


@pytest.mark.parametrize("text", ["secret-key\n", "a sha256:00\n", "", "# nobody\n", "é", "{0}\n{0}\n"])
def test_an_invalid_keys_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text.format(new_key("alice")[1]))
    with pytest.raises(SettingsError) as refused:
        create_app(Settings(api_keys_file=path), FakePredictor())
    assert str(path) in str(refused.value) and "secret-key" not in str(refused.value)


def test_the_log_has_the_keys_name_but_never_the_key(
    make_api: ApiFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, line = new_key("alice")
    (tmp_path / "keys").write_text(line)
    api = make_api(api_keys_file=tmp_path / "keys")
    with caplog.at_level(logging.DEBUG):
        api.client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        api.client.get("/v1/models", headers={"authorization": f"Bearer {key}x"})
    assert [record.fields.get("key") for record in caplog.records if hasattr(record, "fields")] == ["alice", None]
    assert not any(key in JsonFormatter().format(record) for record in caplog.records)


def test_the_openapi_document_says_that_a_key_is_required(make_api: ApiFactory) -> None:
    api = make_api(**KEYS)
    document = api.client.get("/openapi.json", headers={"authorization": "Bearer first"}).json()
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"key": []}]
    assert document["paths"]["/readyz"]["get"]["security"] == []
    assert "security" not in make_api().client.get("/openapi.json").json()


def test_one_key_cannot_fill_the_queue(make_api: ApiFactory) -> None:
    gate, began = threading.Event(), threading.Event()
    predictor = FakePredictor()
    api = make_api(predictor, max_regions=2, max_queue_regions=8, max_key_regions=2, max_batch_regions=1, **KEYS)

    def hold(boxes: object) -> None:
        began.set()
        gate.wait(30)

    def post(key: str) -> int:
        return api.raw(body, authorization=f"Bearer {key}").status_code

    body = json.dumps({"image": {"base64": in_base64(image_bytes())}, **one_region()}).encode()
    predictor.run_hook = hold
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(post, "first")]
        assert began.wait(30)
        futures += [pool.submit(post, "first") for _ in range(2)]
        while api.client.app.state.engine.serving.executor._batcher.waiting < 2:  # type: ignore[attr-defined]
            time.sleep(0.005)
        assert post("first") == 429
        futures.append(pool.submit(post, "second"))
        gate.set()
        assert [each.result(30) for each in futures] == [200] * 4
    text = api.client.get("/metrics", headers={"authorization": "Bearer first"}).text
    assert 'dynrefer_rejected_total{reason="key_share"} 1.0' in text


def test_pages_of_other_origins_may_ask_only_where_they_are_named(make_api: ApiFactory) -> None:
    preflight = {"origin": "https://page.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in make_api().client.options("/v1/describe", headers=preflight).headers
    api = make_api(cors_origins="https://page.example", **KEYS)
    answer = api.client.options("/v1/describe", headers=preflight)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://page.example")
    stranger = api.client.options("/v1/describe", headers={**preflight, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers
    assert api.client.get("/v1/models", headers={"origin": "https://page.example"}).status_code == 401
