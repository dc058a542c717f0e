"""Accepting connections: what happens where there is no room for more."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from dynrefer.service.server import acceptor
from dynrefer.service.server.acceptor import Acceptor
from dynrefer.service.server.connections import protocol_class
from dynrefer.service.server.server import listen
from tests.service.server.test_process import PATIENCE_S

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def application(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def accepting(listener: socket.socket, most: int, evicting: bool = False) -> AsyncIterator[ServerState]:
    config = uvicorn.Config(
        application, http=protocol_class(PATIENCE_S), log_config=None, access_log=False, lifespan="off"
    )
    config.load()
    state = ServerState()
    accepting = Acceptor(listener, config, state, {}, most, evicting)
    accepting.start()
    yield state
    accepting.close()
    for each in list(state.connections):
        each.shutdown()
    while state.connections:
        await asyncio.sleep(0)


async def connect(listener: socket.socket) -> Streams:
    return await asyncio.open_connection(*listener.getsockname())


async def answered(streams: Streams) -> bytes:
    """The response's first line to a request on the connection; empty where it is closed."""
    streams[1].write(REQUEST)
    line = await asyncio.wait_for(streams[0].readline(), PATIENCE_S)
    while line and (await streams[0].readline()).strip():
        pass
    return line.strip()


class RefusingListener(socket.socket):
    """Refuses to accept so many times, as the system does at the limit on open files."""

    refusals = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.refusals:
            type(self).refusals -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def refusing(times: int) -> RefusingListener:
    RefusingListener.refusals = times
    return RefusingListener(fileno=listen("127.0.0.1", 0).detach())


def test_where_the_system_refuses_it_pauses_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "RETRY_S", 0.001)

    async def scene() -> None:
        async with accepting(listener := refusing(20), most=10):
            assert await answered(await connect(listener)) == b"HTTP/1.1 204 No Content"

    asyncio.run(scene())
    assert RefusingListener.refusals == 0
    (record,) = caplog.records
    assert record.message == "new connections wait while 0 are open: too many open files"
    assert record.exc_info is None


def test_more_connections_than_are_held_wait_their_turn(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with accepting(listener := listen("127.0.0.1", 0), most=3) as state:
            first = [await connect(listener) for _ in range(3)]
            for each in first:
                await answered(each)
            waiting = await connect(listener)
            waiting[1].write(REQUEST)
            await answered(first[0])
            assert len(state.connections) == 3
            first[0][1].close()
            assert await answered(waiting) == b"HTTP/1.1 204 No Content"

    asyncio.run(scene())
    assert [record.message for record in caplog.records] == [
        "new connections wait while 3 are open: as many as are held at once"
    ]


def test_a_new_connection_can_take_the_place_of_the_oldest() -> None:
    async def scene() -> None:
        async with accepting(listener := listen("127.0.0.1", 0), most=3, evicting=True) as state:
            idle = [await connect(listener) for _ in range(10)]
            assert await answered(await connect(listener)) == b"HTTP/1.1 204 No Content"
            assert 1 <= len(state.connections) <= 3
            assert [await each[0].read() for each in idle[:8]] == [b""] * 8

    asyncio.run(scene())
