"""Debian's redis-server, started by a test; and listeners that are none."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.system_programs import needs

PATIENCE_S = 60

needs_redis = needs("redis-server", "redis-server")


class RedisServer:
    """A server of its own in a folder, which may be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._socket, self._folder, self._options = folder / "redis.sock", folder, options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Until it answers."""
        program = shutil.which("redis-server")
        assert program is not None
        fixed = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(self._folder)]
        self.process = subprocess.Popen([program, *fixed, *self._options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        while not self._accepts():
            assert self.process.poll() is None and time.monotonic() < until
            time.sleep(0.01)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
            except OSError:
                return False
        return True

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._socket.unlink(missing_ok=True)


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    """options: of its command line."""
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def listener(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of something else than a Redis: `talk` has each connection."""
    server = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=_talk, args=(talk, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        for connection in connections:
            connection.close()


def _talk(talk: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(OSError):
        talk(connection)


def black_hole(connection: socket.socket) -> None:
    """It accepts, and reads, and never answers."""
    while connection.recv(65_536):
        pass


def another_protocol(connection: socket.socket) -> None:
    """It answers whatever it is asked in a protocol of its own."""
    while connection.recv(65_536):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def trickle(connection: socket.socket) -> None:
    """It answers the probe and then byte by byte, each in time."""
    while data := connection.recv(65_536):
        if b"PING" in data:
            connection.sendall(b"+PONG\r\n")
        elif b"GETRANGE" in data:
            connection.sendall(b"$100000\r\n")
            while True:
                connection.sendall(b"x")
                time.sleep(0.002)
        else:
            connection.sendall(b"+OK\r\n" * data.count(b"*"))
