"""An answer that is read while it is written: what `Client.ask_stream` and `AsyncClient.ask_stream` return."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from types import TracebackType
from typing import Self

import httpx2

from dynrefer.service.client.conversation_fields import EVENTS
from dynrefer.service.client.conversations import EventReader, ServedReply
from dynrefer.service.client.errors import BrokenAnswer


class AnswerStream(Iterator[str]):
    """The pieces of an answer, in order; together they are its content. `reply` is all of it, after the last one::

        stream = client.ask_stream("dog.jpg", "What is this?")
        for piece in stream:
            print(piece, end="", flush=True)
        print(stream.reply.grounding)

    The request is sent when the first piece is asked for, and what goes wrong is raised there. Whoever stops early
    closes it, by `close` or `with`: the service then stops working for it.
    """

    def __init__(self, chunks: Generator[bytes]) -> None:
        """chunks: the bytes of the answer's events."""
        self._events, self._chunks = EventReader(), chunks
        self._pieces = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it, with its connection."""
        self._pieces.close()
        self._chunks.close()

    @property
    def reply(self) -> ServedReply:
        """The whole answer. Raises RuntimeError before the last piece was read."""
        return _whole(self._events)

    def _read(self) -> Generator[str]:
        with closing(self._chunks):
            for chunk in self._chunks:
                for piece in self._events.pieces(chunk):
                    if piece:
                        yield piece
        self._events.whole()


class AsyncAnswerStream(AsyncIterator[str]):
    """As `AnswerStream`, for `async for` and `async with`."""

    def __init__(self, chunks: AsyncGenerator[bytes]) -> None:
        """chunks: the bytes of the answer's events."""
        self._events, self._chunks = EventReader(), chunks
        self._pieces = self._read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End it, with its connection."""
        await self._pieces.aclose()
        await self._chunks.aclose()

    @property
    def reply(self) -> ServedReply:
        """The whole answer. Raises RuntimeError before the last piece was read."""
        return _whole(self._events)

    async def _read(self) -> AsyncGenerator[str]:
        async with aclosing(self._chunks):
            async for chunk in self._chunks:
                for piece in self._events.pieces(chunk):
                    if piece:
                        yield piece
        self._events.whole()


def is_event_stream(response: httpx2.Response) -> bool:
    """Whether the answer is one that is read while it is written, and not an error or another program's."""
    return response.status_code == httpx2.codes.OK and response.headers.get("content-type", "").startswith(EVENTS)


def no_stream() -> BrokenAnswer:
    """Of an answer that is none of these."""
    return BrokenAnswer("The answer is no stream of events of a dynrefer service; check the address.")


def _whole(events: EventReader) -> ServedReply:
    if events.reply is None:
        raise RuntimeError("The answer is not whole yet: read all of its pieces first.")
    return events.reply
