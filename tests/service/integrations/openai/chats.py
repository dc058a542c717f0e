"""Chat completions as clients send them, and what their tests read of the answers."""

import io
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from httpx2 import Response
from numpy.typing import NDArray
from PIL import Image

from tests.service.conftest import COLOUR, HEIGHT, WIDTH, image_bytes, in_base64

Json = dict[str, Any]

PATH = "/v1/chat/completions"
CAPTION = "pixel " + " ".join(map(str, COLOUR))  # the fake predictor's of any region


def data_uri(image: bytes | None = None, kind: str = "png") -> str:
    """An image as clients send it."""
    return f"data:image/{kind};base64,{in_base64(image or image_bytes())}"


def image_part(url: str | None = None, **more: Any) -> Json:
    """A part of a message."""
    return {"type": "image_url", "image_url": {"url": url or data_uri(), **more}}


def text_part(text: str) -> Json:
    """A part of a message."""
    return {"type": "text", "text": text}


def user(*parts: Json) -> Json:
    """A user's message."""
    return {"role": "user", "content": list(parts)}


def chat(text: str = "Describe [8, 8, 40, 40].", image: str | None = None, **fields: Any) -> Json:
    """A request."""
    return {"model": "fake", "messages": [user(image_part(image), text_part(text))], **fields}


def answered(client: TestClient, **request: Any) -> Json:
    """The answer of a valid request."""
    response = client.post(PATH, json=chat(**request))
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def refused(response: Response, status: int = 400) -> tuple[str | None, str]:
    """The parameter and the sentence of an error."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"].endswith((".", "?"))
    return error["param"], error["message"]


def boxes(answer: Json) -> list[list[float]]:
    """Of the answer's regions."""
    return [region["box"] for region in answer["regions"]]


def shown_by(alpha: NDArray[np.uint8], kind: str = "PNG") -> str:
    """An image with an alpha channel, as a data: URI."""
    image = Image.new("RGB", (WIDTH, HEIGHT), COLOUR)
    image.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return data_uri(buffer.getvalue(), kind.lower())
