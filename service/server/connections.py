"""HTTP/1.1 connections, stricter than uvicorn's own: headers must arrive in time, and what cannot be parsed gets a
problem document like every other error, which the client can read although it is still sending."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from dynrefer.service.api.problems import PROBLEM_JSON, TABLE, ProblemType, problem_document
from dynrefer.service.errors import UnavailableError
from dynrefer.service.server.request_log import new_request_id
from dynrefer.service.server.request_reader import Refusal, RequestReader

TIMED_OUT = Refusal.of(ProblemType(408, "request-timeout", "The request's headers did not come in time"))
SHUTTING_DOWN = Refusal.of(TABLE[UnavailableError])


class LingeringTransport:
    """A transport whose `close` first says that nothing more is sent, while what still arrives is read and dropped.

    Closing at once with unread bytes makes TCP reset the connection, and the client may lose the response that it was
    about to read (RFC 9112, 9.6).

    linger_s: longest time until it is closed all the same. unread: whether the client may still be sending.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        linger_s: float,
        unread: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._linger_s = linger_s
        self._unread = unread
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def lingering(self) -> bool:
        """Whether the response is complete and what arrives is dropped."""
        return self._timer is not None

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close at once, where the client has sent its whole request, or in stages."""
        if self.is_closing():
            return
        if not self._unread() or not self._transport.can_write_eof():
            self.close_now()
            return
        self._timer = self._loop.call_later(self._linger_s, self.close_now)
        with contextlib.suppress(OSError):  # the client is gone already
            self._transport.write_eof()
        self._transport.resume_reading()

    def close_now(self) -> None:
        """Close without waiting for the client."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()


class GuardedProtocol(H11Protocol):
    """A connection. header_timeout_s: from its opening, or a later request's first byte, to the end of the headers."""

    header_timeout_s: float  # set by `protocol_class`

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: RequestReader = RequestReader()
        self.transport: Any = None  # a LingeringTransport
        self._header_timer: asyncio.TimerHandle | None = None
        self._refused = False

    @property
    def response_pending(self) -> bool:
        """Whether a request's headers have arrived and its response is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Opened: the time for its first request's headers begins."""
        lingering: Any = LingeringTransport(transport, self.loop, self.header_timeout_s, self._request_unread)
        super().connection_made(lingering)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """A later byte does not extend the limit: otherwise a slow client could hold a connection without end."""
        if self.transport.lingering:
            return
        if self._header_timer is None and not self.response_pending:
            self._await_headers()
        super().data_received(data)
        if self.response_pending:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side."""
        self._stop_waiting()
        self.transport.close_now()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An idle connection is closed by the keep-alive limit; one on which the next request has begun, by ours."""
        self._stop_waiting()
        super().on_response_complete()
        if not self.response_pending and self.conn.trailing_data[0]:
            self._await_headers()

    def send_400_response(self, msg: str) -> None:
        """Called for what the reader refuses."""
        self._refuse(self.conn.refusal)

    def shutdown(self) -> None:
        """The process is about to end. A client that has not sent its whole headers by then gets a 503."""
        if self._header_timer is not None and not self.transport.is_closing():
            self._refuse(SHUTTING_DOWN)
        elif self.transport.lingering:
            self.transport.close_now()
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

    def _request_unread(self) -> bool:
        return self._refused or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _should_upgrade(self) -> bool:
        """No other protocol is spoken: a client that offers one goes on with this one (RFC 9110, 7.8)."""
        return False

    def _refuse(self, refusal: Refusal) -> None:
        """Respond without the application, which saw no request or not all of it, and close."""
        if self.response_pending:  # the request's body turned out to be malformed
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refused = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else nothing may be written into the response
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in self._events(refusal)))
        if refusal is SHUTTING_DOWN:
            self.transport.close_now()
        else:
            self.transport.close()

    def _events(self, refusal: Refusal) -> list[h11.Event]:
        """The problem document as a response; without a body for HEAD."""
        request_id, problem = new_request_id(), refusal.problem
        body = json.dumps(problem_document(problem, refusal.detail, request_id)).encode("ascii")
        headers = [
            (b"content-type", PROBLEM_JSON.encode("ascii")),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"x-request-id", request_id.encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
            (b"server-timing", b"total;dur=0.000"),
            (b"connection", b"close"),
        ]
        if refusal is SHUTTING_DOWN:
            headers.append((b"retry-after", b"1"))
        status, reason = problem.status, STATUS_PHRASES[problem.status]
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        data = [] if self.conn.is_head else [h11.Data(data=body)]
        return [response, *data, h11.EndOfMessage()]


def protocol_class(header_timeout_s: float) -> type[GuardedProtocol]:
    """The connection class for uvicorn, with its limit: uvicorn makes the instances."""
    return type("Protocol", (GuardedProtocol,), {"header_timeout_s": header_timeout_s})
