"""Requests as RFC 9112 has them, where h11 is stricter or more tolerant than that.

A request whose length two recipients could read differently is refused and its connection closed: behind a proxy the
rest of it would be taken for another client's request (request smuggling).
"""

import re
from dataclasses import dataclass
from typing import Self

import h11

from dynrefer.service.api.problems import ProblemType

MAX_HEAD_BYTES = 16_384  # the request line and all headers

BAD_REQUEST = ProblemType(400, "bad-request", "The bytes are no HTTP request")
TARGET_TOO_LONG = ProblemType(414, "uri-too-long", "The request target is too long")
HEADERS_TOO_LARGE = ProblemType(431, "request-header-fields-too-large", "The request's headers are too large")
NOT_IMPLEMENTED = ProblemType(501, "not-implemented", "The service does not implement this part of HTTP")
UNKNOWN_VERSION = ProblemType(505, "http-version-not-supported", "The version of HTTP is not supported")

# RFC 3986, 3.2: a name, an IPv4 address or a bracketed IPv6 address, and a port.
AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?]+)(?P<rest>.*)", re.IGNORECASE)
TRANSFER_ENCODING = re.compile(rb"^transfer-encoding:(.*)$", re.IGNORECASE | re.MULTILINE)
EMPTY_LINES = re.compile(rb"(\r?\n)+")
FOLDED_LINE = re.compile(rb"\n[ \t]")
# Fields of one value, of which two recipients could take different lines. h11 sees to Host and Content-Length.
SINGLE_FIELDS = (b"authorization", b"content-type", b"x-request-timeout")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection's bytes are refused: one sentence, and the kind of problem that it is."""

    problem: ProblemType
    detail: str

    @classmethod
    def of(cls, problem: ProblemType) -> Self:
        """Of a problem of which nothing more can be said than its title."""
        return cls(problem, problem.title + ".")


UNREADABLE = Refusal.of(BAD_REQUEST)


class RequestReader(h11.Connection):
    """The server's side of a connection.

    refusal: what to report once `next_event` has raised h11.RemoteProtocolError. is_head: whether the last request that
    could be read was a HEAD, so that its response has no body.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self.refusal = UNREADABLE
        self.is_head = False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """h11's next event; of a request in absolute form the target is the path. Raises h11.RemoteProtocolError for
        what is refused."""
        if self.their_state is not h11.IDLE:
            return super().next_event()
        received = self._skip_empty_lines()
        if received in (b"", b"\r"):
            return h11.NEED_DATA
        self.refusal, self.is_head = UNREADABLE, False
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = _unreadable(received, error.error_status_hint)
            raise
        if not isinstance(event, h11.Request):
            return event
        self.is_head = event.method == b"HEAD"
        head = received[: len(received) - len(self.trailing_data[0])]
        refusal = _objection(event, head)
        if refusal is not None:
            self.refusal = refusal
            raise h11.RemoteProtocolError(refusal.detail)
        return _with_path(event)

    def _skip_empty_lines(self) -> bytes:
        """What has arrived of the next request, without the empty lines ahead of it (RFC 9112, 2.2)."""
        received = self.trailing_data[0]
        if ahead := EMPTY_LINES.match(received):
            # h11 cannot drop bytes; but between two requests it is in the state in which it begins.
            super().__init__(h11.SERVER, MAX_HEAD_BYTES)
            received = received[ahead.end() :]
            if received:
                self.receive_data(received)
        return received


def _unreadable(received: bytes, status_hint: int) -> Refusal:
    """Why h11 refused the head of a request. status_hint: h11's guess."""
    if status_hint == 431:
        return _too_large(received)
    if status_hint == 501:
        return _transfer_refusal(received)
    return UNREADABLE


def _too_large(head: bytes) -> Refusal:
    line, end, _ = head.partition(b"\n")
    if not end or len(line) > MAX_HEAD_BYTES:
        return Refusal(TARGET_TOO_LONG, f"The request line is longer than {MAX_HEAD_BYTES} bytes.")
    return Refusal(HEADERS_TOO_LARGE, f"The request line and headers are longer than {MAX_HEAD_BYTES} bytes.")


def _transfer_refusal(head: bytes) -> Refusal:
    """RFC 9112, 6.1 and 6.3: without chunked, once and last, the end of the body is unknown; others may come before."""
    values = b",".join(TRANSFER_ENCODING.findall(head))
    codings = [coding.strip().lower() for coding in values.split(b",") if coding.strip()]
    if codings[-1:] != [b"chunked"] or codings.count(b"chunked") > 1:
        return Refusal(BAD_REQUEST, "The Transfer-Encoding of a request ends in chunked, once.")
    return Refusal(NOT_IMPLEMENTED, "The only Transfer-Encoding that is implemented is chunked.")


def _objection(request: h11.Request, head: bytes) -> Refusal | None:
    """What is wrong with a request that h11 accepts, if anything. head: its bytes up to the empty line."""
    fields = [(bytes(name), bytes(value)) for name, value in request.headers]
    names = {name for name, _ in fields}
    if not request.http_version.startswith(b"1."):
        return Refusal(UNKNOWN_VERSION, "The service speaks HTTP/1.1.")
    if len(head) > MAX_HEAD_BYTES:
        return _too_large(head)
    if {b"content-length", b"transfer-encoding"} <= names:
        return Refusal(BAD_REQUEST, "A request has either a Content-Length or a Transfer-Encoding.")
    if FOLDED_LINE.search(head):
        return Refusal(BAD_REQUEST, "A header is one line.")
    for single in SINGLE_FIELDS:
        if len({value for name, value in fields if name == single}) > 1:
            return Refusal(BAD_REQUEST, f"The header {single.decode().title()} is given twice, and differs.")
    host = dict(fields).get(b"host")
    if host is None and request.http_version > b"1.0" or host is not None and not AUTHORITY.fullmatch(host):
        return Refusal(BAD_REQUEST, "The header Host is a host and a port.")
    return _target_objection(request.method, request.target)


def _target_objection(method: bytes, target: bytes) -> Refusal | None:
    """RFC 9112, 3.2: a path, a whole address, * for OPTIONS; a host and a port is for proxies."""
    if method == b"CONNECT":
        return Refusal(NOT_IMPLEMENTED, "The service is no proxy: it does not implement CONNECT.")
    absolute = ABSOLUTE_FORM.fullmatch(target)
    form_known = target.startswith(b"/") or absolute is not None or (method == b"OPTIONS" and target == b"*")
    # An authority with a user is one that pretends to be another (RFC 9110, 4.2.4).
    if not form_known or b"#" in target or (absolute and not AUTHORITY.fullmatch(absolute["authority"])):
        return Refusal(BAD_REQUEST, "The request target is neither a path nor an http address.")
    return None


def _with_path(request: h11.Request) -> h11.Request:
    """The request with the target's path alone; the host of an absolute form replaces the header's (3.2.2)."""
    absolute = ABSOLUTE_FORM.fullmatch(request.target)
    if absolute is None:
        return request
    target = absolute["rest"]
    if not target.startswith(b"/"):
        target = b"*" if request.method == b"OPTIONS" and not target else b"/" + target
    headers = [(name, absolute["authority"] if name == b"host" else value) for name, value in request.headers]
    return h11.Request(method=request.method, headers=headers, target=target, http_version=request.http_version)
