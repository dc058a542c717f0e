"""Accepts the connections of one listening socket, and pauses where there is no room for more.

While the limit on open files is reached, asyncio's own server tries again at once and logs a traceback for each of
thousands of attempts. Here the connections that wait stay with the system until one of ours is closed.
"""

import asyncio
import logging
import socket
import time
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from dynrefer.service.server.connections import GuardedProtocol

logger = logging.getLogger(__name__)

AT_ONCE = 64  # connections accepted before the event loop does something else
RETRY_S = 0.1
REPORT_EVERY_S = 10.0


class Acceptor:
    """listener: a listening stream socket, which this closes. config: loaded; its protocol is a `GuardedProtocol`.

    state: keeps the connections that are open. app_state: what the application's lifespan left for the requests.
    most: how many connections are held at once; above 0.
    evicting: whether a new connection takes the place of the oldest idle one where `most` are open; else it waits.
    """

    def __init__(
        self,
        listener: socket.socket,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
        most: int,
        evicting: bool = False,
    ) -> None:
        self._listener = listener
        self._config = config
        self._state = state
        self._app_state = app_state
        self._most = most
        self._evicting = evicting
        self._opening: set[asyncio.Task[object]] = set()
        self._by_age: dict[GuardedProtocol, None] = {}  # the oldest first; kept where it is needed
        self._retry: asyncio.TimerHandle | None = None
        self._reported = -REPORT_EVERY_S

    def start(self) -> None:
        """Begin to accept, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept nothing more; the connections stay."""
        self._loop.remove_reader(self._listener)
        if self._retry is not None:
            self._retry.cancel()
        self._listener.close()

    def _accept(self) -> None:
        """The listening socket is readable: somebody waits."""
        for _ in range(AT_ONCE):
            if self._open >= self._most and not (self._evicting and self._evict()):
                self._pause("as many as are held at once")
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # it has given up
                continue
            except OSError as error:  # the limit on open files of the process or the system, or want of memory
                self._pause((error.strerror or "the system refuses more").lower())
                return
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._connection, connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    @property
    def _open(self) -> int:
        """How many connections there are; one that is just being opened may be counted twice."""
        return len(self._state.connections) + len(self._opening)

    def _connection(self) -> GuardedProtocol:
        # As uvicorn makes it; the class is one of several there.
        make = cast(type[Any], self._config.http_protocol_class)
        connection: GuardedProtocol = make(config=self._config, server_state=self._state, app_state=self._app_state)
        if self._evicting:
            self._by_age = {each: None for each in self._by_age if self._is_open(each)} | {connection: None}
        return connection

    def _is_open(self, connection: GuardedProtocol) -> bool:
        """Also one that asyncio is about to open."""
        return connection.transport is None or connection in self._state.connections

    def _evict(self) -> bool:
        """Close the oldest connection on which no response is pending. Whether there was one."""
        for connection in self._by_age:
            if connection in self._state.connections and not connection.response_pending:
                self._state.connections.discard(connection)  # the loop closes it in its next turn
                connection.transport.abort()
                return True
        return False

    def _pause(self, reason: str) -> None:
        """Look again in a while; the log has a line of it now and then."""
        self._loop.remove_reader(self._listener)
        self._retry = self._loop.call_later(RETRY_S, self._resume)
        if time.monotonic() - self._reported >= REPORT_EVERY_S:
            self._reported = time.monotonic()
            logger.warning("new connections wait while %d are open: %s", self._open, reason)

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._listener, self._accept)
