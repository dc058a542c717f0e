"""An answer of /v1/converse as a server that does what it is told sends it: whole, and as server-sent events."""

import json
from typing import Any

from tests.service.client.scripted import Answer, raw

ANSWERED: dict[str, Any] = {
    "id": "req_1",
    "model": "scripted",
    "image": {"width": 8, "height": 6},
    "message": {
        "role": "assistant",
        "content": "A dog 🐕 left of a mat.",
        "grounding": [
            {"span": [2, 5], "box": [1, 2, 3.5, 4], "probability": 0.75, "verified": True, "region": "a"},
            {"span": [18, 21], "box": [4, 2, 8, 6]},
        ],
        "probability": 0.5,
    },
    "finish_reason": "length",
    "usage": {"completion_tokens": 9},
    "timings_ms": {"total": 2.0},
    "of_a_newer_service": 1,
}
PIECES = ["A dog", " 🐕", " left of a mat."]
HEAD = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def event(kind: str, document: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


DELTAS = [event("delta", {"content": piece}) for piece in PIECES]
DONE = event("done", ANSWERED)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def events(*parts: bytes, whole: bool = True) -> Answer:
    """An answer of these chunks. whole: whether it ends as HTTP says that it should."""
    return raw(HEAD + b"".join(map(chunk, parts)) + (b"0\r\n\r\n" if whole else b""), keep=whole)
