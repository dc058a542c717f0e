"""A small OpenAI-compatible service on this machine, in a thread: what it answers is set by the test."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class ChatServer:
    """said: what the model says, a piece each. status, headers: of the answer. requests: (head, document) of each that
    came. gap_s: between two pieces. raw: the body, in the place of the events. silent: it reads, and never answers.
    cut: it ends behind the pieces. left: how many clients went away while it wrote."""

    def __init__(self) -> None:
        self.said: Sequence[str] = ("It is <ref>the", " dog</ref><box>[125, 0, 500, 1000]</box> ", "there.")
        self.status = 200
        self.headers: dict[str, str] = {"Content-Type": "text/event-stream"}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.gap_s = 0.0
        self.raw: bytes | None = None
        self.silent = self.cut = False
        self.finish = "stop"
        self.left = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> dict[str, Any]:
        """The document of the last request."""
        return self.requests[-1][1]

    def wait(self, until: Callable[[], bool], most_s: float = 10.0) -> None:
        """Until it has come to this."""
        end = time.monotonic() + most_s
        while not until():
            assert time.monotonic() < end
            time.sleep(0.01)

    def events(self) -> Iterator[bytes]:
        """The pieces as server-sent events."""
        for each in self.said:
            yield _event({"choices": [{"index": 0, "delta": {"content": each}, "finish_reason": None}]})
        if not self.cut:
            yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]})
            yield b"data: [DONE]\n\n"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
            self.requests.append((head, json.loads(await reader.readexactly(int(lengths[0])))))
            if self.silent:
                await reader.read()
                self.left += 1
                return
            lines = [f"HTTP/1.1 {self.status} X", *(f"{name}: {value}" for name, value in self.headers.items())]
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
            for part in [self.raw] if self.raw is not None else self.events():
                writer.write(part)
                await writer.drain()
                if self.gap_s and reader.at_eof():
                    raise ConnectionError
                await asyncio.sleep(self.gap_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            writer.close()


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\r\n\r\n"


@contextlib.contextmanager
def standing(server: ChatServer) -> Iterator[ChatServer]:
    """It listens while the block lasts."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.handle, "127.0.0.1", 0))
    server.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(listening.close)
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _cancel_all() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
