"""The whole application: threads, pages, imports, and what concerns several parts."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence

import httpx2
import pytest

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor
from tests.service.conftest import ApiClient, image_bytes, in_base64, one_region


@pytest.mark.parametrize(
    "module", ["dynrefer.service", "dynrefer.service.app", "dynrefer.service.cli", "dynrefer.service.server.server"]
)
def test_importing_the_service_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_device_has_one_thread_and_the_loop_does_no_work(api: ApiClient) -> None:
    for _ in range(3):
        assert api.json().status_code == 200
    assert api.predictor.run_threads == {"device"}
    assert all(name.startswith("worker") for name in api.predictor.prepare_threads)


def test_concurrent_requests_share_a_batch() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: Sequence[object]) -> None:
        began.set()
        gate.wait(10)

    predictor = FakePredictor()
    app = create_app(Settings(worker_processes=0), predictor)
    bodies = [
        json.dumps({"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": [0, 0, 8, side]}]})
        for side in range(1, 9)
    ]

    async def post(client: httpx2.AsyncClient, body: str) -> httpx2.Response:
        return await client.post("/v1/describe", content=body, headers={"content-type": "application/json"})

    async def ask_all() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.005)
            predictor.batches.clear()
            predictor.run_hook = hold
            first = asyncio.create_task(post(client, bodies[0]))
            await asyncio.to_thread(began.wait, 10)
            others = [asyncio.create_task(post(client, body)) for body in bodies[1:]]
            while app.state.engine.serving.executor._batcher._queued < len(others):
                await asyncio.sleep(0.002)
            gate.set()
            return [await first, *[await other for other in others]]

    responses = asyncio.run(ask_all())
    assert [response.json()["regions"][0]["box"][3] for response in responses] == list(range(1, 9))
    assert [len(batch) for batch in predictor.batches] == [1, 7]


def test_a_client_that_hangs_up_leaves_the_queue() -> None:
    gate, began = threading.Event(), threading.Event()
    predictor = FakePredictor()
    app = create_app(Settings(max_batch_regions=1, worker_processes=0), predictor)
    body = json.dumps({"image": {"base64": in_base64(image_bytes())}, **one_region()}).encode()
    regions = [{"box": [0, 0, 8, side]} for side in (5, 6, 7)]
    large = json.dumps({"image": {"base64": in_base64(image_bytes())}, "regions": regions}).encode()

    def hold(boxes: Sequence[object]) -> None:
        began.set()
        gate.wait(10)

    async def call(data: bytes, hang_up: asyncio.Event) -> list[int]:
        """Speak ASGI directly: no client library can hang up in the middle on demand."""
        statuses: list[int] = []
        sent = False

        async def receive() -> dict[str, object]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": data, "more_body": False}
            await hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(int(str(message["status"])))

        scope = {
            "type": "http", "method": "POST", "path": "/v1/describe", "raw_path": b"", "query_string": b"",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
            "root_path": "", "client": ("test", 1), "server": ("test", 80), "asgi": {"version": "3.0"},
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[arg-type]
        return statuses

    async def scene() -> list[list[int]]:
        engine = app.state.engine
        async with app.router.lifespan_context(app):
            while engine.phase.name != "READY":
                await asyncio.sleep(0.005)
            predictor.batches.clear()
            predictor.run_hook = hold
            leaving = asyncio.Event()
            gone = asyncio.create_task(call(large, leaving))
            await asyncio.to_thread(began.wait, 10)
            stays = asyncio.create_task(call(body, asyncio.Event()))
            while engine.serving.executor._batcher._queued < 3:
                await asyncio.sleep(0.002)
            leaving.set()
            while engine.serving.executor._batcher.waiting > 1:
                await asyncio.sleep(0.002)
            gate.set()
            return [await gone, await stays]

    assert asyncio.run(scene()) == [[499], [200]]
    assert len(predictor.batches) == 2  # one region of the three had begun


def test_unforeseen_errors_are_problems_too(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(api.predictor, "prepare_each", fail)
    response = api.json()
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] in response.json()["instance"]
    assert "secret" not in response.text


def test_every_response_carries_its_id_and_times(api: ApiClient) -> None:
    for path in ("/livez", "/nothing", "/docs", "/static/icon.svg"):
        headers = api.client.get(path).headers
        assert headers["x-request-id"].startswith("req_")
        assert headers["server-timing"].startswith("total;dur=")


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_pages_load_nothing_from_other_hosts(api: ApiClient, path: str) -> None:
    page = api.client.get(path)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!doctype html>", "")
    assert '"/' not in page.text  # relative to the page: tests/service/server/test_path_prefix.py
    for link in page.text.split('"static/')[1:]:
        assert api.client.get("/static/" + link.split('"')[0]).status_code == 200
