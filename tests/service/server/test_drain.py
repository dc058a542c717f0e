"""Shutdown of real server processes: SIGTERM loses no request; a second one, or the end of the grace time, ends it."""

import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults import Fault, box_of
from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_process import PATIENCE_S, Server, request_bytes, running

pytestmark = pytest.mark.server

DOCUMENT = {"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": [4, 4, 40, 40]}]}
SLOW = {**DOCUMENT, "regions": [{"box": box_of(Fault.SLOW)}]}


def whole_answer(connection: socket.socket) -> tuple[int, bytes]:
    """(status, head) of the only response on a connection that closes after it; the body must be complete too."""
    data = b""
    while received := connection.recv(65_536):
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert len(body) == int(fields[b"content-length"]), data
    return int(head.split()[1]), head.lower()


def await_line(server: Server, path: str, part: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while part not in server.get(path)[1].decode():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_sigterm_under_load_loses_no_request() -> None:
    limits: dict[str, Any] = {"DYNREFER_MAX_QUEUE_REGIONS": "64", "DYNREFER_MAX_BATCH_REGIONS": "4"}
    with running("tests.serve_fake", FAKE_RUN_SECONDS="0.05", **limits) as server:
        server.await_ready()
        connections = [server.send(DOCUMENT) for _ in range(150)]
        await_line(server, "/metrics", 'outcome="ok",route="/v1/describe"')
        server.process.send_signal(signal.SIGTERM)
        with ThreadPoolExecutor(150) as pool:
            answers = list(pool.map(whole_answer, connections))
        assert {status for status, _ in answers} <= {200, 429, 503}
        assert sum(status == 200 for status, _ in answers) >= 1
        assert all(b"retry-after: " in head for status, head in answers if status != 200)
        assert server.process.wait(PATIENCE_S) == 0


def test_every_accepted_connection_gets_an_answer_whatever_it_had_sent() -> None:
    whole = request_bytes(DOCUMENT)
    with running("tests.serve_fake") as server:
        server.await_ready()
        running_one = server.send(SLOW)
        await_line(server, "/metrics", "dynrefer_batch_regions_count 1.0")
        in_body, in_headers, silent, idle, late = (server.connect() for _ in range(5))
        in_body.sendall(whole[:-100])
        in_headers.sendall(whole[:20])
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in idle.recv(4_096)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        await_line(server, "/readyz", "shutting down")  # and new connections are still answered
        for connection, rest in ((in_body, whole[-100:]), (in_headers, whole[20:]), (late, whole), (idle, whole)):
            connection.sendall(rest)
            status, head = whole_answer(connection)
            assert (status, b"connection: close" in head) == (503, True)
        running_one.close()  # the slow one would take a minute
        assert whole_answer(silent)[0] == 503
        assert server.process.wait(PATIENCE_S) == 0


def test_a_body_that_never_comes_is_answered_at_the_end_of_the_grace_time() -> None:
    with running("tests.serve_fake", DYNREFER_SHUTDOWN_GRACE_S="2") as server:
        server.await_ready()
        stuck, slow = server.connect(), server.send(SLOW)
        stuck.sendall(request_bytes(DOCUMENT)[:-100])
        await_line(server, "/metrics", "dynrefer_batch_regions_count 1.0")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert [whole_answer(each)[0] for each in (stuck, slow)] == [503, 503]
        assert server.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once(signals: Sequence[signal.Signals]) -> None:
    with running("tests.serve_fake") as server:
        server.await_ready()
        with server.send(SLOW):
            await_line(server, "/metrics", "dynrefer_batch_regions_count 1.0")
            server.process.send_signal(signals[0])
            await_line(server, "/readyz", "shutting down")
            assert server.end(signals[1]) == 1
        assert server.last_line() == "dynrefer: stopped at once by a second signal.\n"
        assert "Traceback" not in "".join(server.lines)


def test_a_second_signal_ends_what_hangs() -> None:
    hanging = {**DOCUMENT, "regions": [{"box": box_of(Fault.HANG)}]}
    with running("tests.serve_fake", FAKE_HANG_SECONDS="600") as server:
        server.await_ready()
        with server.send(hanging):
            await_line(server, "/metrics", "dynrefer_batch_regions_count 1.0")
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGHUP)
            assert server.process.wait(PATIENCE_S) == 1
        assert server.last_line() == "dynrefer: stopped at once by a second signal.\n"
        assert "Traceback" not in "".join(server.lines)


def test_a_second_signal_changes_nothing_where_all_is_done() -> None:
    with running("tests.serve_fake") as server:
        server.await_ready()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0
        server.last_line()
        assert "Traceback" not in "".join(server.lines)


def test_an_idle_service_ends_soon() -> None:
    with running("tests.serve_fake", DYNREFER_SHUTDOWN_GRACE_S="600") as server:
        server.await_ready()
        assert server.end() == 0


def test_a_killed_process_leaves_its_port_free() -> None:
    with running("tests.serve_fake") as server:
        server.await_ready()
        port = server.address.rsplit(":", 1)[1]
        with server.send(SLOW):
            server.process.kill()
            server.process.wait(PATIENCE_S)
    with running("tests.serve_fake", DYNREFER_PORT=port) as again:
        again.await_ready()
        assert again.describe(DOCUMENT)[0] == 200
