"""Connections, byte by byte: what is not HTTP gets a problem document too, and no malformed request hangs or harms."""

import json
from collections.abc import Iterator

import pytest

from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_faults import await_metric
from tests.service.server.test_process import Server, request_bytes, running

pytestmark = pytest.mark.server

DOCUMENT = {"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": [4, 4, 40, 40]}]}
WHOLE = request_bytes(DOCUMENT)
BODY = WHOLE.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """With room for two bodies at the same time."""
    size = str(len(BODY) + 1_000)
    limits = {"DYNREFER_MAX_BODY_BYTES": size, "DYNREFER_MAX_BUFFERED_BYTES": str(2 * int(size))}
    with running("tests.serve_fake", DYNREFER_HEADER_TIMEOUT_S="1", **limits) as server:
        server.await_ready()
        yield server
        assert server.end() == 0


def exchange(server: Server, data: bytes) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Everything that arrives until the connection closes: (status, headers, body) of each response."""
    with server.connect() as connection:
        connection.sendall(data)
        rest = b""
        while received := connection.recv(65_536):
            rest += received
    answers = []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        answers.append((int(head.split()[1]), fields, rest[:length]))
        rest = rest[length:]
    return answers


def with_headers(*lines: bytes) -> bytes:
    start = b"POST /v1/describe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return start + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # no host
        (with_headers(b"Content-Length: -1"), 400),
        (with_headers(b"Content-Length: 5", b"Content-Length: 6"), 400),
        (with_headers(b"Transfer-Encoding: gzip"), 400),
        (with_headers(b"Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        (with_headers(b"Transfer-Encoding: gzip, chunked"), 501),
        (b"GET /li", 408),
        (b"", 408),
    ],
)
def test_what_is_not_a_request_gets_a_problem_document(server: Server, data: bytes, status: int) -> None:
    answers = exchange(server, data)
    assert len(answers) == 1
    found, headers, body = answers[0]
    assert found == status
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-request-id"] and headers[b"connection"] == b"close"
    problem = json.loads(body)
    assert problem["status"] == found and problem["instance"].endswith(headers[b"x-request-id"].decode())


def test_a_length_that_is_too_small_only_spoils_the_rest(server: Server) -> None:
    first, second = exchange(server, with_headers(b"Content-Length: %d" % (len(BODY) - 9)) + BODY)
    assert (first[0], second[0]) == (422, 408)  # nine bytes are no headers, and none come


def test_a_client_that_is_still_sending_can_read_why_it_is_refused(server: Server) -> None:
    for line, status in ((b"X: " + b"a" * 5_000_000, 431), (b"Content-Length: 5000000", 413)):
        ((found, headers, _),) = exchange(server, with_headers(line, b"Connection: close") + b"a" * 5_000_000)
        assert (found, headers[b"connection"]) == (status, b"close")
    assert server.describe(DOCUMENT)[0] == 200


def test_a_malformed_body_is_refused_once_and_leaves_no_traceback(server: Server) -> None:
    for kind in (b"application/json", b"text/plain"):  # the application waits for it, or refuses it unread
        head = with_headers(b"Transfer-Encoding: chunked").replace(b"application/json", kind)
        ((status, _, _),) = exchange(server, head + b"zz\r\n")
        assert status == 400
    assert "Traceback" not in "".join(server.lines)


def test_what_follows_a_refused_request_is_not_read(server: Server) -> None:
    ambiguous = with_headers(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    ((status, _, _),) = exchange(server, ambiguous + b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 400


def test_a_refused_head_request_gets_no_body(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"HEAD ftp://a/x HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert received.startswith(b"HTTP/1.1 400 ") and received.endswith(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in received.lower()


@pytest.mark.parametrize("codings", [(b"identity", b"gzip"), (b"", b"br"), (b"gzip", b"identity")])
def test_every_line_of_content_codings_counts(server: Server, codings: tuple[bytes, ...]) -> None:
    lines = [b"Content-Encoding: " + coding for coding in codings]
    body = b"Content-Length: %d" % len(BODY), b"Connection: close"
    assert [status for status, _, _ in exchange(server, with_headers(*lines, *body) + BODY)] == [415]
    lines = [b"Content-Encoding: identity", b"Content-Encoding:"]
    assert [status for status, _, _ in exchange(server, with_headers(*lines, *body) + BODY)] == [200]


def test_an_offer_of_another_protocol_is_passed_over(server: Server) -> None:
    for protocol in (b"websocket", b"h2c"):
        offer = b"Upgrade: " + protocol, b"Connection: Upgrade, close", b"Content-Length: %d" % len(BODY)
        assert [status for status, _, _ in exchange(server, with_headers(*offer) + BODY)] == [200]
    assert "pip install" not in "".join(server.lines)


def test_a_body_is_asked_for_only_where_it_will_be_read(server: Server) -> None:
    lines = b"Expect: 100-continue", b"Connection: close", b"Content-Length: %d" % len(BODY)
    with server.connect() as connection:
        connection.sendall(with_headers(*lines))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    refused = with_headers(*lines[::2]).replace(b"application/json", b"text/plain")
    ((status, headers, _),) = exchange(server, refused)  # closed: what follows would be the body, or would not
    assert (status, headers[b"connection"]) == (415, b"close")


def test_a_length_that_is_too_large_meets_the_deadline(server: Server) -> None:
    lines = (b"Content-Length: %d" % (len(BODY) + 9), b"X-Request-Timeout: 0.2", b"Connection: close")
    ((status, _, _),) = exchange(server, with_headers(*lines) + BODY)
    assert status == 504


def test_a_chunked_body_is_accepted(server: Server) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:100], BODY[100:])) + b"0\r\n\r\n"
    ((status, _, _),) = exchange(server, with_headers(b"Transfer-Encoding: chunked", b"Connection: close") + chunks)
    assert status == 200


def test_the_bodies_in_memory_at_the_same_time_are_limited(server: Server) -> None:
    slow = [server.connect() for _ in range(2)]
    for connection in slow:
        connection.sendall(with_headers(b"Content-Length: %d" % (len(BODY) + 1_000)) + BODY + b" " * 999)
    await_metric(server, "dynrefer_buffered_bytes", 2 * (len(BODY) + 999))  # until both have arrived
    status, _ = server.describe(DOCUMENT)
    assert status == 429 and server.retry_after[-1] >= 1
    assert b'dynrefer_rejected_total{reason="buffer_full"}' in server.get("/metrics")[1]
    for connection in slow:
        connection.sendall(b" ")
        assert b" 200 " in connection.recv(65_536)
        connection.close()
    assert server.describe(DOCUMENT)[0] == 200
