"""HTTP/1.1 connections, stricter than uvicorn's own: headers must arrive in time, and what cannot be parsed gets a
problem document like every other error."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from dynrefer.service.api.problems import PROBLEM_JSON, TABLE, ProblemType, problem_document
from dynrefer.service.errors import UnavailableError
from dynrefer.service.server.request_log import new_request_id

BAD_REQUEST = ProblemType(400, "bad-request", "The bytes are no HTTP request")
TIMED_OUT = ProblemType(408, "request-timeout", "The request's headers did not come in time")
SHUTTING_DOWN = TABLE[UnavailableError]


class GuardedProtocol(H11Protocol):
    """A connection. header_timeout_s: from its opening, or a later request's first byte, to the end of the headers."""

    header_timeout_s: float  # set by `protocol_class`

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._header_timer: asyncio.TimerHandle | None = None

    @property
    def response_pending(self) -> bool:
        """Whether a request's headers have arrived and its response is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Opened: the time for its first request's headers begins."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """A later byte does not extend the limit: otherwise a slow client could hold a connection without end."""
        if self._header_timer is None and not self.response_pending:
            self._await_headers()
        super().data_received(data)
        if self.response_pending:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An idle connection is closed by the keep-alive limit; one on which the next request has begun, by ours."""
        self._stop_waiting()
        super().on_response_complete()
        if not self.response_pending and self.conn.trailing_data[0]:
            self._await_headers()

    def send_400_response(self, msg: str) -> None:
        """Called for what h11 cannot parse."""
        self._refuse(BAD_REQUEST)

    def shutdown(self) -> None:
        """The process is about to end. A client that has not sent its whole headers by then gets a 503."""
        if self._header_timer is not None and not self.transport.is_closing():
            self._refuse(SHUTTING_DOWN)
        else:
            super().shutdown()

    def _await_headers(self) -> None:
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        if not self.response_pending and not self.transport.is_closing():
            self._refuse(TIMED_OUT)

    def _refuse(self, problem: ProblemType) -> None:
        """Respond without the application, which never saw a request, and close."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # a response has begun: nothing may be written into it
            return
        request_id = new_request_id()
        body = json.dumps(problem_document(problem, problem.title + ".", request_id)).encode("ascii")
        headers = [
            (b"content-type", PROBLEM_JSON.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"x-request-id", request_id.encode("ascii")),
            (b"server-timing", b"total;dur=0.000"),
            (b"connection", b"close"),
        ]
        if problem is SHUTTING_DOWN:
            headers.append((b"retry-after", b"1"))
        status, reason = problem.status, STATUS_PHRASES[problem.status]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def protocol_class(header_timeout_s: float) -> type[GuardedProtocol]:
    """The connection class for uvicorn, with its limit: uvicorn makes the instances."""
    return type("Protocol", (GuardedProtocol,), {"header_timeout_s": header_timeout_s})
