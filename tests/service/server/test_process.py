"""Real server processes: they start, respond, drain on SIGTERM, and exit with the right code."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import image_bytes, in_base64, one_region

pytestmark = pytest.mark.server

PATIENCE_S = 120  # a busy machine may take long to import torch


class Server:
    """A running process and its address."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        folder: Path | None = None,
        preexec_fn: Callable[[], None] | None = None,
        **environment: str,
    ) -> None:
        """folder: the checkout whose module it is; the current one by default. preexec_fn: as in Popen."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DYNREFER_PORT": "0", **environment},
            cwd=folder,
            preexec_fn=preexec_fn,
        )
        self.environment = environment
        self.lines: list[str] = []
        self.retry_after: list[int] = []  # seconds, from the headers of errors
        self.address = self._read_address()
        self._reader = threading.Thread(target=self._read_rest, daemon=True)
        self._reader.start()

    def _read_address(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"Listening on (\S+)", line):
                return found.group(1)
        raise AssertionError("".join(self.lines))

    def _read_rest(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def get(self, path: str) -> tuple[int, bytes]:
        return self._open(urllib.request.Request(self.address + path))

    def describe(self, document: dict[str, Any], **more: str) -> tuple[int, dict[str, Any]]:
        return self.post("/v1/describe", document, **more)

    def post(self, path: str, document: dict[str, Any], **more: str) -> tuple[int, dict[str, Any]]:
        headers = {"content-type": "application/json", **more}
        data = json.dumps(document).encode()
        status, body = self._open(urllib.request.Request(self.address + path, data, headers))
        answer: dict[str, Any] = json.loads(body)
        return status, answer

    def _open(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            if "retry-after" in error.headers:
                self.retry_after.append(int(error.headers["retry-after"]))
            return error.code, error.read()

    def connect(self) -> socket.socket:
        """A bare connection."""
        host, port = self.address.removeprefix("http://").rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=PATIENCE_S)

    def send(self, document: dict[str, Any]) -> socket.socket:
        """A connection on which a request has been sent; the response has not been read."""
        connection = self.connect()
        connection.sendall(request_bytes(document))
        return connection

    def await_ready(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert time.monotonic() < until, self._what_it_said()
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError as error:  # it listens from before its address was printed: refused by a process that has ended
            self.process.wait(PATIENCE_S)
            self._reader.join(PATIENCE_S)
            raise AssertionError(self._what_it_said()) from error

    def _what_it_said(self) -> str:
        return f"exit code {self.process.poll()}\n{''.join(self.lines)}"

    def last_line(self) -> str:
        """The last line on standard error; call it once the process has ended."""
        self._reader.join(PATIENCE_S)
        return self.lines[-1]

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


def request_bytes(document: dict[str, Any]) -> bytes:
    """A whole HTTP request."""
    body = json.dumps(document).encode()
    head = f"POST /v1/describe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@contextmanager
def running(
    module: str, *arguments: str, preexec_fn: Callable[[], None] | None = None, **environment: str
) -> Iterator[Server]:
    server = Server(module, *arguments, preexec_fn=preexec_fn, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


REQUEST = {"image": {"base64": in_base64(image_bytes())}, **one_region()}


def test_starts_answers_and_stops() -> None:
    for by in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with running("tests.serve_fake", DYNREFER_LOG_FORMAT="json") as server:
            server.await_ready()
            status, answer = server.describe(REQUEST)
            assert status == 200 and answer["model"] == "fake"
            assert server.end(by) == 0
            logged = [json.loads(line) for line in server.lines if line.startswith("{")]
            assert any(entry.get("request_id") == answer["id"] for entry in logged)
            assert "Traceback" not in "".join(server.lines)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_a_running_request_finish(by: signal.Signals) -> None:
    with running("tests.serve_fake", FAKE_RUN_SECONDS="0.5") as server:
        server.await_ready()
        answers: list[tuple[int, dict[str, Any]]] = []
        client = threading.Thread(target=lambda: answers.append(server.describe(REQUEST)))
        client.start()
        while b"dynrefer_image_pixels_count 1.0" not in server.get("/metrics")[1]:
            time.sleep(0.01)
        assert server.end(by) == 0
        client.join(PATIENCE_S)
        assert [status for status, _ in answers] == [200]


def test_a_model_that_cannot_be_loaded_ends_the_process() -> None:
    with running("tests.serve_fake", FAKE_BROKEN_LOAD="1") as server:
        assert server.process.wait(PATIENCE_S) == 2
        server._reader.join(PATIENCE_S)
        assert server.lines[-1] == "dynrefer: the model directory 'nowhere' does not exist\n"
        assert "Traceback" not in "".join(server.lines)
