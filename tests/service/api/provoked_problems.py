"""Every problem of every operation, provoked: what the service really says when it refuses or fails.

The service runs in this process around the fake predictor, whose faults regions choose (`tests/faults.py`).
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response

from benchmarks.attacks.images.jpeg import many_scans
from benchmarks.attacks.images.png import black_png
from dynrefer.model.containers import MOST_SCANS
from dynrefer.model.errors import ModelNotFoundError
from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.fake_converser import FakeConverserSpec
from tests.fake_finder import FakeFinderSpec
from tests.faults import Fault, FaultyPredictor, box_of
from tests.service.conftest import await_ready, image_bytes, in_base64

Json = dict[str, Any]

REQUEST_ID = "req_9f1c2ab04de84f6b"
HEADERS = {"x-request-id": REQUEST_ID}
GETS = {
    "GET /v1/models": "/v1/models",
    "GET /v1/vocabularies": "/v1/vocabularies",
    "GET /v1/vocabularies/{name}": "/v1/vocabularies/coco",
}
RELOAD = "/v1/models/reload"
# What a request about an image asks, beside the image.
ASKED: dict[str, Json] = {
    "/v1/describe": {"regions": [{"box": [8, 8, 40, 40]}]},
    "/v1/detect": {"names": ["dog"]},
    "/v1/converse": {"messages": [{"role": "user", "content": "What is this?"}]},
}
WRONG: dict[str, Json] = {
    "/v1/describe": {"regions": [{"box": [8, 8, 40, 40]}, {"box": [900, 900, 950, 950]}]},
    "/v1/detect": {"nams": ["dog"]},
    "/v1/converse": {"messages": [{"role": "user", "content": "What is <region:cup>?"}]},
}
# The operation -> slug of the problem -> the problem document, its status in it.
Provoked = dict[str, dict[str, Json]]


@contextmanager
def service(
    ready: bool = True, load_another: Callable[[str], FaultyPredictor] | None = None, **settings: Any
) -> Iterator[tuple[TestClient, FaultyPredictor]]:
    """A client of an application. ready: else the model is never loaded. load_another: as in `create_app`."""
    predictor = FaultyPredictor(finding=FakeFinderSpec(), conversing=FakeConverserSpec())
    chosen = Settings(**{"worker_processes": 0, **settings})
    client = TestClient(create_app(chosen, predictor, load_another=load_another), headers=HEADERS)
    if not ready:
        yield client, predictor
        return
    with client:
        await_ready(client)
        yield client, predictor


def provoked() -> Provoked:
    """All of them."""
    found: Provoked = {}

    def note(operation: str, response: Response) -> None:
        problem = response.json()
        assert response.headers["content-type"] == "application/problem+json", response.text
        assert problem["status"] == response.status_code
        found.setdefault(operation, {})[problem["type"].rpartition(":")[2]] = problem

    _by_keys(note)
    _before_it_is_ready(note)
    with service() as (client, predictor):
        note("GET /v1/vocabularies/{name}", client.get("/v1/vocabularies/koko"))
        for path in ASKED:
            _by_the_request(client, path, partial_note(note, path))
            _by_the_device(client, predictor, path, partial_note(note, path))
    for path in ASKED:
        partial_note(note, path)(_with_a_full_queue(path))
    _of_switching_models(note)
    return {operation: dict(sorted(each.items())) for operation, each in sorted(found.items())}


Note = Callable[[str, Response], None]


def partial_note(note: Note, path: str) -> Callable[[Response], None]:
    """`note` of a posted operation."""
    return lambda response: note(f"POST {path}", response)


def post(client: TestClient, path: str, image: bytes | None = None, **more: Any) -> Response:
    """A request in JSON. more: fields; with `headers` among them, those."""
    headers = more.pop("headers", {})
    document = {"image": {"base64": in_base64(image or image_bytes())}, **ASKED[path], **more}
    return client.post(path, json=document, headers=headers)


def _by_keys(note: Note) -> None:
    with service(api_keys="sesame", ready=False) as (client, _):
        for operation, path in {**GETS, "GET /metrics": "/metrics"}.items():
            note(operation, client.get(path))
        for path in ASKED:
            note(f"POST {path}", post(client, path))


def _before_it_is_ready(note: Note) -> None:
    gate = threading.Event()
    with service(ready=False) as (client, predictor):
        predictor.run_hook = lambda _: bool(gate.wait(30)) and None  # holds the warm-up
        with client:
            for operation, path in {**GETS, "GET /readyz": "/readyz", "GET /health": "/health"}.items():
                note(operation, client.get(path))
            for path in ASKED:
                note(f"POST {path}", post(client, path))
            gate.set()


def _by_the_request(client: TestClient, path: str, note: Callable[[Response], None]) -> None:
    """Refused before the device is asked."""
    too_long = Settings().max_body_bytes + 1
    note(client.post(path, content=b" " * too_long, headers={"content-type": "application/json"}))
    note(post(client, path, black_png(10_000, 6_000)))
    note(client.post(path, content=b"a dog", headers={"content-type": "text/plain"}))
    note(post(client, path, many_scans(MOST_SCANS + 1, 8)))
    note(post(client, path, **WRONG[path]))


def _by_the_device(client: TestClient, predictor: FaultyPredictor, path: str, note: Callable[[Response], None]) -> None:
    """Failed, or too slow."""

    def wait(_: object) -> None:
        threading.Event().wait(0.3)

    def fail(_: object) -> None:
        raise ValueError("an internal of the model's")

    def fail_to_prepare(*_: object) -> None:
        raise RuntimeError("an internal of the service's")

    predictor.run_hook = predictor.find_hook = predictor.converse_hook = wait
    note(post(client, path, headers={"x-request-timeout": "0.05"}))
    predictor.run_hook, predictor.find_hook, predictor.converse_hook = (lambda _: None), fail, fail
    poison = {"regions": [{"box": [8, 8, 40, 40]}, {"box": box_of(Fault.POISON)}]}
    note(post(client, path, **(poison if path == "/v1/describe" else {})))
    predictor.find_hook = predictor.converse_hook = lambda _: None
    engine = client.app.state.engine  # type: ignore[attr-defined]  # an ASGI application to the client
    verb = path.rpartition("/")[2]
    kept = getattr(engine, verb)
    setattr(engine, verb, fail_to_prepare)
    note(post(client, path))
    setattr(engine, verb, kept)


def _of_switching_models(note: Note) -> None:
    """Of letting another model serve: by whom, when, and which."""
    get, post_ = "GET /v1/models/reload", "POST /v1/models/reload"
    asked, gate = {"model": "embedded"}, threading.Event()
    admin = {"authorization": "Bearer boss"}

    def load(location: str) -> FaultyPredictor:
        gate.wait(30)
        raise ModelNotFoundError("the model directory 'embedded' is empty or has no config.json.")

    with service(api_keys="sesame", admin_keys="boss", ready=False) as (client, _):
        for headers in ({}, {"authorization": "Bearer sesame"}):
            note(get, client.get(RELOAD, headers=headers))
            note(post_, client.post(RELOAD, json=asked, headers=headers))
        note(post_, client.post(RELOAD, json=asked, headers=admin))  # not ready
    with service(load_another=load, admin_keys="boss") as (client, _):
        for body in (b" " * 20_000, b'{"modle": "embedded"}', b'{"previous": true}'):
            typed = {**admin, "content-type": "application/json"}
            note(post_, client.post(RELOAD, content=body, headers=typed))
        note(post_, client.post(RELOAD, content=b"embedded", headers={**admin, "content-type": "text/plain"}))
        note(post_, client.post(RELOAD, json=asked, headers={**admin, "x-request-timeout": "0.05"}))
        gate.set()
        while "loading" in client.get(RELOAD, headers=admin).json():
            pass
        note(post_, client.post(RELOAD, json=asked, headers=admin))


def _with_a_full_queue(path: str) -> Response:
    """The second of two requests, where there is room for one."""
    gate, began = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        began.set()
        gate.wait(30)

    with (
        service(max_regions=64, max_queue_regions=64, max_batch_regions=1) as (client, predictor),
        ThreadPoolExecutor(1) as pool,
    ):
        predictor.run_hook = hold
        full = {"regions": [{"box": [8, 8, 40, 40]}] * 64}
        first = pool.submit(post, client, "/v1/describe", **full)
        assert began.wait(30)
        points: Json = {"regions": [{"points": [{"x": 8, "y": 8}]}] * 64}
        more: dict[str, Json] = {"/v1/describe": full, "/v1/converse": points}
        refused = post(client, path, **more.get(path, {}))
        gate.set()
        assert first.result(30).status_code == 200
    return refused
