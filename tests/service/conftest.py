"""Shared by the service's tests: encoded images, an application around the fake predictor, and a client for it."""

import base64
import gc
import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image

from dynrefer.service.app import create_app
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor

WIDTH, HEIGHT = 64, 48
COLOUR = (10, 20, 30)


def image_bytes(kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """An encoded image of one colour, WIDTH x HEIGHT, in the given format."""
    buffer = io.BytesIO()
    image = Image.new("RGB", (WIDTH, HEIGHT), COLOUR)
    # convert() to a palette would dither.
    (image.quantize(4) if mode == "P" else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def turned_image_bytes() -> bytes:
    """An upright image of 48 x 64 pixels, stored in 64 x 48: EXIF orientation 6."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT), COLOUR).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def in_base64(data: bytes) -> str:
    """Standard Base64 text."""
    return base64.b64encode(data).decode()


def one_region(**fields: Any) -> dict[str, Any]:
    """A request about one region, without its image."""
    return {"regions": [{"box": [8, 8, 40, 40]}], **fields}


class ApiClient:
    """Posts requests to /v1/describe."""

    def __init__(self, client: TestClient, predictor: FakePredictor) -> None:
        self.client = client
        self.predictor = predictor

    def json(self, **fields: Any) -> Response:
        """The JSON form; keyword arguments replace or add top-level fields, bytes stand for an image."""
        if isinstance(fields.get("image"), bytes):
            fields["image"] = {"base64": in_base64(fields["image"])}
        document = {"image": {"base64": in_base64(image_bytes())}, **one_region(), **fields}
        # json.dumps writes NaN and Infinity, which a client library would refuse to send.
        return self.raw(json.dumps(document).encode())

    def raw(self, body: bytes, content_type: str = "application/json", **headers: str) -> Response:
        """Any bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/v1/describe", content=body, headers={"content-type": content_type, **named})

    def form(self, image: bytes | None = None, **fields: Any) -> Response:
        """The multipart form."""
        files = {"image": ("image", image or image_bytes())}
        return self.client.post("/v1/describe", files=files, data={"request": json.dumps(one_region(**fields))})


def await_ready(client: TestClient) -> None:
    """Until the device thread has warmed up."""
    until = time.monotonic() + 10
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.005)


ApiFactory = Callable[..., ApiClient]


@pytest.fixture
def make_api() -> Iterator[ApiFactory]:
    """make_api(max_regions=2, predictor=...) starts an application and returns its client, once it is ready."""
    clients = []

    def make(predictor: FakePredictor | None = None, **settings: Any) -> ApiClient:
        predictor = predictor or FakePredictor()
        # Threads see the predictor's hooks, and are quick to start.
        client = TestClient(create_app(Settings(**{"worker_processes": 0, **settings}), predictor))
        client.__enter__()
        clients.append(client)
        await_ready(client)
        predictor.batches.clear(), predictor.queries.clear(), predictor.prepare_threads.clear()
        return ApiClient(client, predictor)

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    """The client of an application with default settings."""
    return make_api()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector does not run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def field_errors(response: Response) -> dict[str, str]:
    """The field errors of a problem document, pointer -> detail. Checks the document's other members too."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["instance"] == "urn:request:" + response.headers["x-request-id"]
    assert problem["type"].startswith("urn:problem-type:dynrefer:")
    assert problem["title"] and problem["detail"]
    return {error["pointer"]: error["detail"] for error in problem.get("errors", [])}
