"""Requests to POST /v1/converse, and what is read of their responses."""

import json
from typing import Any

from httpx2 import Response

from tests.fake_converser import FakeConverserSpec
from tests.fakes import FakePredictor
from tests.service.conftest import (
    ApiClient,
    image_bytes,
    in_base64,
)

BOX = [8.0, 4.0, 40.0, 44.0]


def talkative(**more: Any) -> FakePredictor:
    return FakePredictor(conversing=FakeConverserSpec(), **more)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def said(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def post(
    api: ApiClient, question: str = "is this a dog ?", headers: dict[str, str] | None = None, **fields: Any
) -> Response:
    document = {"image": {"base64": in_base64(image_bytes())}, "messages": [user(question)], **fields}
    # A client library would refuse to send halves of surrogate pairs.
    body, more = json.dumps(document).encode(), headers or {}
    return api.client.post("/v1/converse", content=body, headers={"content-type": "application/json", **more})


def message(response: Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["message"]
    return found


def events(response: Response) -> list[tuple[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in response.headers
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def metric(api: ApiClient, name: str) -> float:
    lines = api.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).rsplit(" ", 1)[1])
