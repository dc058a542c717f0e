"""Real server processes whose log nobody reads, or which may open few files: they go on answering and end with 0."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.service.server.test_process import PATIENCE_S, REQUEST, Server, running

pytestmark = pytest.mark.server

F_SETPIPE_SZ = 1_031  # Linux; Python has a name for it since 3.10, typeshed not on every system
OPEN_FILES = 80


class UnreadServer(Server):
    """A server whose standard error is read up to the line with its address, and not further."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve_fake"],
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "DYNREFER_PORT": "0", **environment},
        )
        assert self.process.stderr is not None
        fcntl.fcntl(self.process.stderr, F_SETPIPE_SZ, 4_096)
        self.lines, self.retry_after = [], []
        line = self.process.stderr.readline().decode()
        assert line.startswith("Listening on ")
        self.address = line.split()[-1]

    def stop_reading(self) -> None:
        self.process.stderr.close()  # type: ignore[union-attr]


@contextmanager
def unread(**environment: str) -> Iterator[UnreadServer]:
    server = UnreadServer(**environment)
    try:
        yield server
    finally:
        server.stop_reading()
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def dropped(server: Server) -> float:
    _, text = server.get("/metrics")
    name = "dynrefer_log_lines_dropped_total "
    return next(float(line.removeprefix(name)) for line in text.decode().splitlines() if line.startswith(name))


def test_a_full_log_pipe_blocks_nothing() -> None:
    with unread(DYNREFER_LOG_FORMAT="json") as server:
        server.await_ready()
        long_id = {"x-request-id": "x" * 64}
        for _ in range(60):  # about 250 bytes each: more than the pipe holds
            assert server.describe(REQUEST, **long_id)[0] == 200
        assert server.get("/livez")[0] == 200 and dropped(server) == 0  # they wait
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


def test_a_closed_log_pipe_blocks_nothing_and_its_lines_are_counted() -> None:
    with unread() as server:
        server.await_ready()
        server.stop_reading()
        before = dropped(server)
        assert server.describe(REQUEST)[0] == 200
        until = time.monotonic() + PATIENCE_S
        while dropped(server) == before:
            assert time.monotonic() < until
        server.process.send_signal(signal.SIGHUP)  # as a terminal does that is closed
        assert server.process.wait(PATIENCE_S) == 0


def test_at_the_limit_on_open_files_connections_wait_and_the_log_is_quiet() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))

    assert before[0] > 3 * OPEN_FILES  # this process opens as many
    with running("tests.serve_fake", preexec_fn=limit) as server:
        server.await_ready()
        connections = [server.connect() for _ in range(2 * OPEN_FILES)]
        last: Any = connections[-1]
        last.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for each in connections[:-1]:
            each.close()
        assert last.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert server.describe(REQUEST)[0] == 200
        assert server.end() == 0
        told = [line for line in server.lines if "new connections wait" in line]
        assert len(told) == 1 and "Traceback" not in "".join(server.lines)
