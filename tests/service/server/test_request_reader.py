"""Requests byte by byte, as RFC 9112 and RFC 9110 have them: what is read, and what is refused with which status."""

from collections.abc import Iterable

import h11
import pytest

from dynrefer.service.server.request_reader import MAX_HEAD_BYTES, RequestReader

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


def read(*pieces: bytes) -> list[h11.Event] | int:
    """The events of what arrives piece by piece, or the status of the refusal."""
    reader = RequestReader()
    events: list[h11.Event] = []
    for piece in pieces:
        reader.receive_data(piece)
        try:
            while isinstance(event := reader.next_event(), h11.Event):
                events.append(event)
        except h11.RemoteProtocolError:
            assert reader.refusal.detail.endswith(".")
            return reader.refusal.problem.status
    return events


def request_of(*pieces: bytes) -> h11.Request:
    events = read(*pieces)
    assert not isinstance(events, int), events
    assert isinstance(events[0], h11.Request) and isinstance(events[-1], h11.EndOfMessage)
    return events[0]


def get(target: bytes = b"/livez", version: bytes = b"1.1", *lines: bytes, method: bytes = b"GET") -> bytes:
    head = b"%s %s HTTP/%s\r\n" % (method, target, version)
    return head + b"".join(line + b"\r\n" for line in lines or (b"Host: a",)) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(b"/v1/describe", b"1.1", b"Host: a", *lines, method=b"POST") + body


def one_by_one(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize("lines", [b"\r\n", b"\n", b"\r\n\r\n", b"\n\r\n\n", b"\r\n" * 20_000])
def test_empty_lines_ahead_of_a_request_are_ignored(lines: bytes) -> None:
    assert request_of(lines + LIVEZ).target == b"/livez"
    assert request_of(lines, LIVEZ).target == b"/livez"
    assert request_of(*one_by_one(lines[-100:] + LIVEZ)).target == b"/livez"


def test_empty_lines_between_two_requests_are_ignored() -> None:
    """Some clients end a body with a line break that does not belong to it."""
    reader = RequestReader()
    reader.receive_data(post(b"Content-Length: 2", body=b"{}") + b"\r\n" + LIVEZ)
    assert [type(reader.next_event()) for _ in range(3)] == [h11.Request, h11.Data, h11.EndOfMessage]
    assert reader.next_event() is h11.PAUSED
    reader.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
    reader.send(h11.EndOfMessage())
    reader.start_next_cycle()
    request = reader.next_event()
    assert isinstance(request, h11.Request) and request.target == b"/livez"


def test_a_lone_carriage_return_is_no_empty_line() -> None:
    assert read(b"\r") == []
    assert read(b"\r", b"GET") == read(b"\rGET") == 400


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://a/livez", b"/livez"),
        (b"HTTP://a/livez?x=http://b/", b"/livez?x=http://b/"),
        (b"https://[::1]:8000/livez", b"/livez"),
        (b"http://a", b"/"),
        (b"http://a?x", b"/?x"),
        (b"//b/livez", b"//b/livez"),
        (b"/http://a/livez", b"/http://a/livez"),
    ],
)
def test_targets(target: bytes, path: bytes) -> None:
    assert request_of(get(target)).target == path


def test_the_host_of_an_absolute_target_counts() -> None:
    request = request_of(get(b"http://a:8000/livez", b"1.1", b"HOST: other.example", b"X: 1"))
    assert [(bytes(name), bytes(value)) for name, value in request.headers] == [(b"host", b"a:8000"), (b"x", b"1")]


def test_options_of_the_whole_service() -> None:
    assert request_of(get(b"*", method=b"OPTIONS")).target == b"*"
    assert request_of(get(b"http://a:8000", method=b"OPTIONS")).target == b"*"


@pytest.mark.parametrize(
    "target", [b"livez", b"*", b"a:80", b"ftp://a/x", b"http:///livez", b"http://user@a/livez", b"http:/a", b"/livez#x"]
)
def test_targets_that_are_none(target: bytes) -> None:
    assert read(get(target)) == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(b"a:443", method=b"CONNECT"), 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (get(version=b"2.0"), 505),
        (get(version=b"0.9"), 505),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\rHost: a\r\n\r\n", 400),
    ],
)
def test_methods_and_versions(data: bytes, status: int) -> None:
    assert read(data) == status


def test_newer_minor_versions_are_read_as_the_newest_known_one() -> None:
    assert request_of(get(version=b"1.2")).target == b"/livez"


@pytest.mark.parametrize(
    "lines",
    [
        (b"X: 1",),  # no Host
        (b"Host: a", b"Host: a"),
        (b"Host: a", b"Host: b"),
        (b"Host: a b",),
        (b"Host: a/b",),
        (b"Host: user@a",),
        (b"Host: a, b",),
        (b"Host: a:b",),
        (b"Host : a",),
        (b"Host: a", b"X Y: 1"),
        (b"Host: a", b"X(): 1"),
        (b"Host: a", b": 1"),
        (b"Host: a", b"novalue"),
        (b"Host: a", b"X: 1\x00"),
        (b"Host: a", b"X: 1\r2"),
        (b"Host: a", b"X: 1", b" folded"),
        (b"Host: a", b"Authorization: Bearer x", b"Authorization: Bearer y"),
        (b"Host: a", b"Content-Type: application/json", b"content-type: multipart/form-data"),
    ],
)
def test_headers_that_are_malformed_or_ambiguous(lines: tuple[bytes, ...]) -> None:
    assert read(get(b"/livez", b"1.1", *lines)) == 400


@pytest.mark.parametrize("host", [b"", b"a", b"a_b.example:80", b"127.0.0.1:8000", b"[::1]:8000", b"a:"])
def test_hosts(host: bytes) -> None:
    assert request_of(get(b"/livez", b"1.1", b"Host: " + host)).target == b"/livez"


def test_http_1_0_needs_no_host() -> None:
    assert request_of(get(b"/livez", b"1.0", b"X: 1")).target == b"/livez"
    assert read(get(b"/livez", b"1.2", b"X: 1")) == 400


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 0"), 400),
        ((b"Content-Length: 5", b"Content-Length: 6"), 400),
        ((b"Content-Length: 5, 6",), 400),
        ((b"Content-Length: -1",), 400),
        ((b"Content-Length: +5",), 400),
        ((b"Content-Length: 0x5",), 400),
        ((b"Content-Length: 5 5",), 400),
        ((b"Content-Length:",), 400),
        ((b"Content-Length: " + b"9" * 40,), 400),
        ((b"Transfer-Encoding: gzip",), 400),  # where the body ends is unknown
        ((b"Transfer-Encoding: identity",), 400),
        ((b"Transfer-Encoding: xchunked",), 400),
        ((b"Transfer-Encoding:",), 400),
        ((b"Transfer-Encoding: chunked, gzip",), 400),
        ((b"Transfer-Encoding: chunked, chunked",), 400),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked", b"transfer-encoding: identity"), 400),
        ((b"Transfer-Encoding: gzip, chunked",), 501),
        ((b"Transfer-Encoding: gzip", b"TRANSFER-ENCODING: chunked"), 501),
    ],
)
def test_lengths_that_two_recipients_could_read_differently(lines: tuple[bytes, ...], status: int) -> None:
    assert read(post(*lines, body=b"0\r\n\r\n")) == status


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\n0\n\n0\r\n\r\n",
        b"2\r\n{}}\r\n0\r\n\r\n",
        b"\r\n",
        b"f" * 21 + b"\r\n",
        b"0\r\nX Y: 1\r\n\r\n",
        b"2;" + b"x" * MAX_HEAD_BYTES,
    ],
)
def test_chunks_that_are_malformed(chunks: bytes) -> None:
    assert read(post(b"Transfer-Encoding: chunked", body=chunks)) == 400


def test_chunks() -> None:
    body = b"1;name=value\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n"
    events = read(*one_by_one(post(b"transfer-encoding: Chunked", body=body)))
    assert not isinstance(events, int)
    assert b"".join(event.data for event in events if isinstance(event, h11.Data)) == b"{}"


def test_equal_lengths_are_one() -> None:
    assert request_of(post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}")).method == b"POST"


@pytest.mark.parametrize("whole", [True, False])
def test_long_heads(whole: bool) -> None:
    """The limit holds whether the head comes in one piece or in many."""

    def status(data: bytes) -> list[h11.Event] | int:
        return read(data) if whole else read(*(data[i : i + 500] for i in range(0, len(data), 500)))

    long = b"a" * MAX_HEAD_BYTES
    assert status(get(b"/" + long)) == 414
    assert status(get(b"/livez", b"1.1", b"Host: a", b"X: " + long)) == 431
    assert status(get(b"/livez", b"1.1", b"Host: a", *[b"X: 1"] * 4_000)) == 431
    assert not isinstance(status(get(b"/" + long[:8_000], b"1.1", b"Host: a", b"X: " + long[:8_000])), int)
