"""What the service's tests share: pictures, an application around the fake predictor, and ways to ask it."""

import base64
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


def picture(kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """A plain picture of WIDTH x HEIGHT in the given format."""
    buffer = io.BytesIO()
    plain = Image.new("RGB", (WIDTH, HEIGHT), COLOUR)
    # Pillow's way to a palette by convert() dithers.
    (plain.quantize(4) if mode == "P" else plain.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def in_base64(data: bytes) -> str:
    """Standard Base64 text."""
    return base64.b64encode(data).decode()


def one_region(**fields: Any) -> dict[str, Any]:
    """A request about one region, without its image."""
    return {"regions": [{"box": [8, 8, 40, 40]}], **fields}


class Asker:
    """Posts requests to /v1/describe."""

    def __init__(self, client: TestClient, predictor: FakePredictor) -> None:
        self.client = client
        self.predictor = predictor

    def json(self, **fields: Any) -> Response:
        """The JSON form; keyword arguments replace or add top-level fields, bytes stand for an image."""
        if isinstance(fields.get("image"), bytes):
            fields["image"] = {"base64": in_base64(fields["image"])}
        document = {"image": {"base64": in_base64(picture())}, **one_region(), **fields}
        # json.dumps writes NaN and Infinity, which a client library would refuse to send.
        return self.raw(json.dumps(document).encode())

    def raw(self, body: bytes, content_type: str = "application/json", **headers: str) -> Response:
        """Any bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/v1/describe", content=body, headers={"content-type": content_type, **named})

    def form(self, image: bytes | None = None, **fields: Any) -> Response:
        """The multipart form."""
        files = {"image": ("picture", image or picture())}
        return self.client.post("/v1/describe", files=files, data={"request": json.dumps(one_region(**fields))})


def await_ready(client: TestClient) -> None:
    """Until the device thread has warmed up."""
    until = time.monotonic() + 10
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.005)


Opener = Callable[..., Asker]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens applications: opened(max_regions=2, predictor=...) -> a ready Asker."""
    clients = []

    def opener(predictor: FakePredictor | None = None, **settings: Any) -> Asker:
        predictor = predictor or FakePredictor()
        client = TestClient(create_app(Settings(**settings), predictor))
        client.__enter__()
        clients.append(client)
        await_ready(client)
        predictor.batches.clear(), predictor.queries.clear(), predictor.prepare_threads.clear()
        return Asker(client, predictor)

    yield opener
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def ask(opened: Opener) -> Asker:
    """An application with default settings."""
    return opened()


def flaws(response: Response) -> dict[str, str]:
    """Pointer -> detail of a problem document, whose frame is checked on the way."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["instance"] == "urn:request:" + response.headers["x-request-id"]
    assert problem["type"].startswith("urn:problem-type:dynrefer:")
    assert problem["title"] and problem["detail"]
    return {flaw["pointer"]: flaw["detail"] for flaw in problem.get("errors", [])}
