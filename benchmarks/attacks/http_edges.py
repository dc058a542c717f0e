"""Edges of HTTP/1.1, as RFC 9110 and RFC 9112 have them; each case names its section."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from benchmarks.attacks.findings import Finding
from benchmarks.attacks.served import Service

PAGES = ("/livez", "/readyz", "/v1/models", "/metrics", "/openapi.json", "/", "/docs")
SILENCE_S = 2.0

DESCRIBE = "POST /v1/describe HTTP/1.1\nHost: a\nContent-Type: application/json\n"
NEXT = "GET /livez HTTP/1.1\nHost: a\n\n"


def _say(service: Service, text: str) -> tuple[str, bool]:
    """What comes back for a text, whose line ends become CR LF, until the service closes or is silent; whether it
    closed."""
    with socket.create_connection((service.host, service.port), timeout=SILENCE_S) as link:
        got = b""
        try:
            link.sendall(text.replace("\n", "\r\n").encode("latin-1"))
            while piece := link.recv(65_536):
                got += piece
        except TimeoutError:
            return got.decode("latin-1"), False
        except ConnectionError:
            pass
        return got.decode("latin-1"), True


def _statuses(got: str) -> list[int]:
    return [int(each) for each in re.findall(r"HTTP/1\.1 (\d{3}) ", got)]


# What is sent, and which of the statuses, each alone, is a right answer.
ONE_ANSWER: dict[str, tuple[str, tuple[int, ...]]] = {
    "absolute-form target (RFC 9112, 3.2.2)": ("GET http://a/livez HTTP/1.1\nHost: a\nConnection: close\n\n", (200,)),
    "absolute-form https target (3.2.2)": ("GET https://a:8/livez HTTP/1.1\nHost: a\nConnection: close\n\n", (200,)),
    "absolute-form target, query (3.2.2)": (
        "GET http://a/livez?x=1 HTTP/1.1\nHost: b\nConnection: close\n\n",
        (200,),
    ),
    "absolute-form target without a path (3.2.2)": ("GET http://a HTTP/1.1\nHost: a\nConnection: close\n\n", (200,)),
    "an empty line ahead (2.2)": ("\nGET /livez HTTP/1.1\nHost: a\nConnection: close\n\n", (200,)),
    "several empty lines ahead (2.2)": ("\n\n\nGET /livez HTTP/1.1\nHost: a\nConnection: close\n\n", (200,)),
    "no Host (3.2)": ("GET /livez HTTP/1.1\nConnection: close\n\n", (400,)),
    "two Hosts (3.2)": ("GET /livez HTTP/1.1\nHost: a\nHost: b\nConnection: close\n\n", (400,)),
    "space ahead of the colon (5.1)": ("GET /livez HTTP/1.1\nHost : a\nConnection: close\n\n", (400,)),
    "folded field (5.2)": ("GET /livez HTTP/1.1\nHost: a\nX: b\n c\nConnection: close\n\n", (200, 400)),
    "HTTP/2.0 in the first line (2.3)": ("GET /livez HTTP/2.0\nHost: a\nConnection: close\n\n", (200, 400, 505)),
    "no version (2.3)": ("GET /livez\n\n", (400,)),
    "two lengths that differ (6.3)": (DESCRIBE + "Content-Length: 2\nContent-Length: 3\n\n{}\n", (400,)),
    "two lengths in one field (6.3)": (DESCRIBE + "Content-Length: 2, 3\n\n{}\n", (400,)),
    "length with a sign (6.3)": (DESCRIBE + "Content-Length: +2\n\n{}", (400,)),
    "length below 0 (6.3)": (DESCRIBE + "Content-Length: -2\n\n{}", (400,)),
    "length in hexadecimal (6.3)": (DESCRIBE + "Content-Length: 0x2\n\n{}", (400,)),
    "unknown transfer coding (6.1)": (DESCRIBE + "Transfer-Encoding: gzip\n\n", (400, 411, 501)),
    "coding behind chunked (6.1)": (DESCRIBE + "Transfer-Encoding: chunked, gzip\n\n", (400, 501)),
    "chunk size of letters (7.1)": (DESCRIBE + "Transfer-Encoding: chunked\n\nzz\n{}\n0\n\n", (400,)),
    "chunk size below 0 (7.1)": (DESCRIBE + "Transfer-Encoding: chunked\n\n-2\n{}\n0\n\n", (400,)),
    "chunk longer than its size (7.1)": (DESCRIBE + "Transfer-Encoding: chunked\n\n1\n{}\n0\n\n", (400,)),
    "field name of no characters (5.1)": ("GET /livez HTTP/1.1\nHost: a\n: x\nConnection: close\n\n", (400,)),
    "NUL in a field (RFC 9110, 5.5)": ("GET /livez HTTP/1.1\nHost: a\nX: a\0b\nConnection: close\n\n", (400,)),
    "unknown method (RFC 9110, 9.1)": ("BREW /livez HTTP/1.1\nHost: a\nConnection: close\n\n", (405, 501)),
    "method that the path lacks (RFC 9110, 15.5.6)": ("DELETE /livez HTTP/1.1\nHost: a\nConnection: close\n\n", (405,)),
    "identity, then gzip (RFC 9110, 8.4)": (
        DESCRIBE + "Content-Encoding: identity\nContent-Encoding: gzip\nContent-Length: 2\nConnection: close\n\n{}",
        (415,),
    ),
    "empty, then br (RFC 9110, 8.4)": (
        DESCRIBE + "Content-Encoding:\nContent-Encoding: br\nContent-Length: 2\nConnection: close\n\n{}",
        (415,),
    ),
    "identity, gzip in one field (RFC 9110, 8.4)": (
        DESCRIBE + "Content-Encoding: identity, gzip\nContent-Length: 2\nConnection: close\n\n{}",
        (415,),
    ),
    "identity alone (RFC 9110, 8.4)": (
        DESCRIBE + "Content-Encoding: identity\nContent-Length: 2\nConnection: close\n\n{}",
        (422,),
    ),
}

# Requests whose framing is in doubt: refused, or answered and closed; what follows is never read as a request.
SMUGGLED = {
    "Content-Length with Transfer-Encoding (6.1)": DESCRIBE + "Content-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
    "Transfer-Encoding with Content-Length (6.1)": DESCRIBE + "Transfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
    "Content-Length of 0 too (6.1)": DESCRIBE + "Content-Length: 0\nTransfer-Encoding: chunked\n\n0\n\n",
    "Transfer-Encoding in capitals with Content-Length (6.1)": (
        DESCRIBE + "TRANSFER-ENCODING: Chunked\ncontent-length: 5\n\n0\n\n"
    ),
    "two Transfer-Encodings with Content-Length (6.1)": (
        DESCRIBE + "Transfer-Encoding: chunked\nTransfer-Encoding: identity\nContent-Length: 5\n\n0\n\n"
    ),
    "Transfer-Encoding on HTTP/1.0 (6.1)": (
        "POST /v1/describe HTTP/1.0\nHost: a\nContent-Type: application/json\nConnection: keep-alive\n"
        "Transfer-Encoding: chunked\n\n2\n{}\n0\n\n"
    ),
}


def http_edges() -> Iterator[Finding]:
    """Everything above, HEAD wherever GET is, and no redirection to a host of the client's choice."""
    with Service() as service:
        for case, text in SMUGGLED.items():
            got, closed = _say(service, text + NEXT)
            found = _statuses(got)
            yield Finding(
                case, closed and len(found) == 1, f"{found}, {'closed' if closed else 'kept open'}", {"statuses": found}
            )
        for case, (text, right) in ONE_ANSWER.items():
            found = _statuses(_say(service, text)[0])
            yield Finding(case, len(found) == 1 and found[0] in right, f"{found}", {"statuses": found})
        for path in PAGES:
            got, _ = _say(service, f"HEAD {path} HTTP/1.1\nHost: a\nConnection: close\n\n")
            bare = got.endswith("\r\n\r\n")
            yield Finding(
                f"HEAD {path} (RFC 9110, 9.3.2)",
                _statuses(got) == [200] and bare,
                f"{_statuses(got)}{'' if bare else ', with a body'}",
                {"statuses": _statuses(got)},
            )
        for path in ("/livez/", "/v1/models/", "/docs/", "//evil.example/livez", "/metrics/"):
            got, _ = _say(service, f"GET {path} HTTP/1.1\nHost: evil.example\nConnection: close\n\n")
            named = "evil.example" in got.partition("\r\n\r\n")[0]
            yield Finding(f"GET {path} leads to no other host", not named, f"{_statuses(got)}", {})
