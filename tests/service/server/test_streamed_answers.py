"""Answers that real server processes stream: they come as they are written, and end with their client or complete."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_process import PATIENCE_S, Server, running

pytestmark = pytest.mark.server

PIECES = 60  # of the long answer, so many that it is far from its end when its first part comes
LONG = " ".join(["word"] * (2 * PIECES - 1))
TOKENS = "dynrefer_reply_tokens_total"


@contextmanager
def talking(piece_s: float = 0.05, **environment: Any) -> Iterator[Server]:
    with running("tests.serve_fake", FAKE_PIECE_SECONDS=str(piece_s), **environment) as server:
        server.await_ready()
        yield server


def asked(server: Server, question: str = LONG, **fields: Any) -> http.client.HTTPResponse:
    """A response whose body has not been read."""
    document = {
        "image": {"base64": in_base64(image_bytes())},
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "max_tokens": 256,
        **fields,
    }
    host = server.address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    connection.request("POST", "/v1/converse", json.dumps(document), {"content-type": "application/json"})
    response = connection.getresponse()
    response.connection = connection  # type: ignore[attr-defined]  # it lives as long as its response
    return response


def event(response: http.client.HTTPResponse) -> tuple[str, Any]:
    """The next event."""
    name, data, blank = (response.readline().decode() for _ in range(3))
    assert blank == "\n", (name, data, blank)
    return name.removeprefix("event: ").strip(), json.loads(data.removeprefix("data: "))


def rest(response: http.client.HTTPResponse) -> list[tuple[str, Any]]:
    found = []
    while (latest := event(response))[0] == "delta":
        found.append(latest)
    assert response.read() == b""
    return [*found, latest]


def metric(server: Server, name: str) -> float:
    lines = server.get("/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))


def await_outcome(server: Server, outcome: str) -> None:
    wanted = f'dynrefer_requests_total{{outcome="{outcome}",route="/v1/converse",surface="api"}}'
    until = time.monotonic() + PATIENCE_S
    while wanted not in server.get("/metrics")[1].decode():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_parts_come_while_the_rest_is_being_written() -> None:
    with talking() as server:
        response = asked(server)
        assert response.status == 200 and response.getheader("content-type", "").startswith("text/event-stream")
        assert response.getheader("x-request-id") and response.getheader("content-length") is None
        first = event(response)
        assert metric(server, TOKENS) < 2 * PIECES  # it is not complete yet
        *_, (last, answer) = parts = [first, *rest(response)]
        assert last == "done" and answer["usage"] == {"completion_tokens": 2 * PIECES}
        assert "".join(data["content"] for name, data in parts if name == "delta") == answer["message"]["content"]
        assert metric(server, TOKENS) == 2 * PIECES
        assert server.end() == 0 and "Traceback" not in "".join(server.lines)


def test_a_client_that_leaves_ends_the_work() -> None:
    with talking() as server:
        response = asked(server)
        event(response)
        response.connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # as `asked` sets it
        response.close()
        await_outcome(server, "disconnected")
        written = metric(server, TOKENS)
        assert written < 2 * PIECES
        *_, (last, _) = rest(asked(server, "another"))
        assert last == "done" and metric(server, TOKENS) == written + 2  # nothing of the first was written meanwhile
        assert server.end() == 0 and "Traceback" not in "".join(server.lines)


def test_an_answer_that_is_under_way_is_completed_after_sigterm() -> None:
    with talking() as server:
        response = asked(server)
        event(response)
        server.process.send_signal(signal.SIGTERM)
        *_, (last, answer) = rest(response)
        assert last == "done" and answer["finish_reason"] == "stop"
        assert server.process.wait(PATIENCE_S) == 0


def test_the_end_of_the_grace_time_ends_an_answer_that_is_too_long() -> None:
    with talking(0.2, DYNREFER_SHUTDOWN_GRACE_S="1") as server:
        response = asked(server)
        event(response)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE_S)
        data = response.fp.read()
        assert b"event: done" not in data
        assert "Traceback" not in "".join(server.lines)


def test_two_conversations_and_a_description_share_the_device() -> None:
    """The short ones are complete while the long one is still written."""
    with talking() as server:
        long = asked(server)
        event(long)
        *_, (last, _) = rest(asked(server, "a few words"))
        assert last == "done"
        image = {"base64": in_base64(image_bytes())}
        assert server.describe({"image": image, "regions": [{"box": [4, 4, 40, 40]}]})[0] == 200
        assert metric(server, TOKENS) < 2 * PIECES
        assert rest(long)[-1][0] == "done"


def test_what_comes_before_the_first_part_is_an_answer_without_events() -> None:
    with talking(0.0) as server:
        for fields, status in (({"regions": [{"box": [900, 900, 901, 901]}]}, 422), ({"max_tokens": 0}, 422)):
            response = asked(server, "a", **fields)
            assert response.status == status
            assert response.getheader("content-type") == "application/problem+json"
            assert json.loads(response.read())["status"] == status
