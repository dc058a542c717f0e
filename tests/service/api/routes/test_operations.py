"""Probes, metrics and the model's card."""

import asyncio
import threading
import time

import pytest
from fastapi.testclient import TestClient

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor
from tests.service.conftest import ApiClient, ApiFactory, await_ready, field_errors


def test_probes_and_card(api: ApiClient) -> None:
    assert api.client.get("/livez").json() == {"status": "alive"}
    assert api.client.get("/readyz").json() == {"status": "ready"}
    assert api.client.get("/health").json() == {"status": "ready"}
    (model,) = api.client.get("/v1/models").json()["models"]
    assert model["name"] == "fake" and model["views"] == {"count": 3, "size": 224}
    assert model["vocabulary"]["tags"] == {"size": 3, "names": ["dog", "street", "leash"]}
    assert model["limits"]["max_regions"] == 64
    assert model["trained_on"] and model["intended_use"]


def test_the_models_are_listed_in_the_form_of_openai_too(api: ApiClient) -> None:
    listed = api.client.get("/v1/models").json()
    (entry,) = listed["data"]
    assert listed["object"] == "list" and listed["models"][0]["name"] == entry["id"] == "fake"
    assert (entry["object"], entry["owned_by"]) == ("model", "dynrefer")
    assert 0 <= time.time() - entry["created"] < 3_600  # when it was loaded, in seconds


def test_not_ready_while_loading() -> None:
    gate = threading.Event()
    predictor = FakePredictor(run_hook=lambda boxes: gate.wait(10) and None)
    with TestClient(create_app(Settings(worker_processes=0), predictor)) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "loading" in response.json()["detail"]
        assert client.get("/health").status_code == 503
        assert client.get("/v1/models").status_code == 503
        assert client.get("/livez").status_code == 200
        gate.set()
        await_ready(client)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_not_ready_when_the_device_thread_has_ended(api: ApiClient) -> None:
    def end(boxes: object) -> None:
        raise SystemExit

    api.predictor.run_hook = end
    assert api.json().status_code == 503
    until = time.monotonic() + 5
    while api.client.get("/readyz").status_code != 503:
        assert time.monotonic() < until
    assert api.json().status_code == 503
    assert api.client.get("/livez").status_code == 200


def test_not_ready_while_draining(api: ApiClient) -> None:
    api.client.app.state.engine.begin_drain()  # type: ignore[attr-defined]
    assert api.client.get("/readyz").status_code == 503
    assert "shutting down" in api.json().json()["detail"]


def test_metrics(make_api: ApiFactory) -> None:
    api = make_api()
    api.json(), api.json(task="poem"), api.client.get("/nothing/here")
    text = api.client.get("/metrics").text
    for line in (
        'dynrefer_requests_total{outcome="ok",route="/v1/describe",surface="api"} 1.0',
        'dynrefer_requests_total{outcome="refused",route="/v1/describe",surface="api"} 1.0',
        'dynrefer_requests_total{outcome="refused",route="unmatched",surface="api"} 1.0',
        'dynrefer_request_duration_seconds_count{route="/v1/describe",surface="api"} 2.0',
        'dynrefer_stage_duration_seconds_count{stage="decode"} 1.0',
        "dynrefer_queue_regions 0.0",
        "dynrefer_buffered_bytes 0.0",
        "dynrefer_batch_regions_sum 1.0",
        "dynrefer_batch_views_sum 3.0",
        "dynrefer_image_pixels_count 1.0",
        "dynrefer_device_oom_total 0.0",
        "dynrefer_batch_cap_regions 16.0",
        "dynrefer_device_regions 0.0",
        'dynrefer_cuda_graphs{state="captured"} 0.0',
        'dynrefer_cuda_graphs{state="fallen_back"} 0.0',
        "dynrefer_view_cache_hits_total 3.0",
        "dynrefer_view_cache_misses_total 4.0",
        "dynrefer_region_cache_hits_total 1.0",
        "dynrefer_region_cache_misses_total 2.0",
        "dynrefer_shared_cache_hits_total 0.0",
        "dynrefer_shared_cache_misses_total 0.0",
        'dynrefer_shared_cache_up{operation="read"} 0.0',
        'dynrefer_shared_cache_errors_total{operation="write"} 0.0',
        "dynrefer_shared_cache_invalid_total 0.0",
        "dynrefer_shared_cache_writes_total 0.0",
        "dynrefer_shared_cache_dropped_total 0.0",
    ):
        assert line in text.splitlines(), line


def test_ten_thousand_paths_do_not_make_series(api: ApiClient) -> None:
    def series() -> int:
        return len(api.client.get("/metrics").text.splitlines())

    async def get(path: str) -> None:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            assert message.get("status", 404) == 404

        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "root_path": "",
            "client": None, "server": None, "asgi": {},
        }  # fmt: skip
        await api.client.app(scope, receive, send)  # type: ignore[arg-type]

    async def get_many() -> None:
        for number in range(10_000):
            await get(f"/nothing/{number}")

    api.client.get("/nothing")
    series()
    before = series()
    asyncio.run(get_many())
    assert series() == before


def test_routing_problems(api: ApiClient) -> None:
    missing, wrong = api.client.get("/v2/describe"), api.client.get("/v1/describe")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["allow"] == "OPTIONS, POST"
    assert field_errors(missing) == field_errors(wrong) == {}
