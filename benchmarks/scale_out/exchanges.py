"""One request of HTTP/1.1 and its answer, by h11 over a socket of our own: sent slowly or left early if asked, and
checked for bytes that belong to no request. The generators of benchmarks/scale_out and scale_soak ask with it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import h11

CHUNK_BYTES = 1 << 16
REUSED_WITHIN_S = 5.0  # far below keep_alive_s, so that the service never closes a connection that is about to be used


@dataclass(frozen=True, slots=True)
class Answer:
    """status: 0 where no whole answer came. seconds: from `began` to its last byte. surplus: bytes behind the answer,
    or an answer to another request. error: why there is none."""

    status: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    surplus: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client behaves. slow_s: the body takes so long to send. leave_after_s: it hangs up then. patience_s: it
    gives up then, which counts as an answer that never came."""

    slow_s: float = 0.0
    leave_after_s: float | None = None
    patience_s: float = 120.0


class Left(Exception):
    """The client hung up, as it was asked to."""


class Connection:
    """One connection, used for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)
        self.idle_since = time.monotonic()

    async def ask(
        self, path: str, headers: Mapping[str, str], body: bytes, manner: Manner
    ) -> tuple[h11.Response, bytes]:
        """The answer's head and body. Raises OSError, EOFError or h11.ProtocolError where there is none."""
        named = [*headers.items(), ("Host", "x"), ("Content-Length", str(len(body)))]
        head = self._http.send(h11.Request(method="POST" if body else "GET", target=path, headers=named)) or b""
        pieces = 10 if manner.slow_s else 1
        size = -(-len(body) // pieces) or 1
        self._writer.write(head)
        for start in range(0, len(body), size):
            self._writer.write(self._http.send(h11.Data(data=body[start : start + size])) or b"")
            await self._writer.drain()
            if manner.slow_s:
                await asyncio.sleep(manner.slow_s / pieces)
        self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()
        return await self._read()

    async def _read(self) -> tuple[h11.Response, bytes]:
        response, parts = None, []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(CHUNK_BYTES)
                if not data and response is None:
                    raise EOFError("the connection ended without an answer")
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                return response, b"".join(parts)
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError("the connection ended within an answer")

    @property
    def has_surplus(self) -> bool:
        """Whether there are bytes behind the answer that was read last."""
        return bool(self._http.trailing_data[0])

    def reusable(self) -> bool:
        """Whether another request may follow; prepares for it."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.idle_since = time.monotonic()
            return True
        return False

    def close(self) -> None:
        """Without waiting."""
        self._writer.close()


class Pool:
    """Connections to one service, kept and used again as clients do."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Connection] = []

    async def ask(
        self,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        manner: Manner | None = None,
        began: float | None = None,
    ) -> Answer:
        """The answer to one request; never raises but for `Left`. began: `time.perf_counter()` when it was due."""
        manner = manner or Manner()
        began = time.perf_counter() if began is None else began
        connection: Connection | None = None
        try:
            limit = manner.patience_s if manner.leave_after_s is None else manner.leave_after_s
            async with asyncio.timeout(limit):
                connection = await self._take()
                response, content = await connection.ask(path, headers, body, manner)
        except TimeoutError:
            _close(connection)
            if manner.leave_after_s is not None:
                raise Left from None
            return Answer(0, time.perf_counter() - began, error=f"no answer within {manner.patience_s:g} s")
        except (OSError, EOFError, h11.ProtocolError) as error:
            _close(connection)
            return Answer(0, time.perf_counter() - began, error=f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - began
        found = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
        asked_id = {name.lower(): value for name, value in headers.items()}.get("x-request-id")
        surplus = connection.has_surplus or (asked_id is not None and found.get("x-request-id") != asked_id)
        if not surplus and connection.reusable():
            self._idle.append(connection)
        else:
            connection.close()
        return Answer(response.status_code, seconds, found, content, surplus)

    async def _take(self) -> Connection:
        while self._idle:
            found = self._idle.pop()
            if time.monotonic() - found.idle_since < REUSED_WITHIN_S:
                return found
            found.close()
        return Connection(*await asyncio.open_connection(self._host, self._port, limit=1 << 20))

    def close(self) -> None:
        """End what is kept."""
        while self._idle:
            self._idle.pop().close()


def _close(connection: Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.close()
