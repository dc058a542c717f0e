"""Keeps the engine busy with items until all are answered, or a stop is asked for.

Reading a file, decoding it, the device's work and the writing of answers overlap: several images are under way at a
time, as many as give the device full batches, and no more, so memory does not grow with the input.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dynrefer.model.errors import ImageError, ModelError, QueryError
from dynrefer.service.api.problems import problem_type_of
from dynrefer.service.batch.errors import BatchError, DeviceGoneError
from dynrefer.service.batch.items import Item, Line
from dynrefer.service.batch.journal import Entry
from dynrefer.service.errors import RetryLaterError, ServiceError

logger = logging.getLogger(__name__)

SYNC_EVERY_S = 2.0  # what a crash of the machine, and not of the process, may take away
RETRY_S, PATIENCE_S = 0.5, 60.0  # where the engine takes nothing for now


@dataclass(frozen=True, slots=True)
class Room:
    """What may be under way at a time. regions: of all images together; an image alone may have more."""

    images: int
    regions: int


class _Gate:
    """Lets items in while there is room for them, in their order. For one task that enters."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._images = self._regions = 0
        self._left = asyncio.Event()

    def has_room(self, regions: int) -> bool:
        """Whether an image with so many may enter. With nothing inside, any may."""
        room = self._room
        return not self._images or (self._images < room.images and self._regions + regions <= room.regions)

    async def enter(self, regions: int) -> None:
        """Wait for room."""
        while not self.has_room(regions):
            self._left.clear()
            await self._left.wait()
        self._images += 1
        self._regions += regions

    def leave(self, regions: int) -> None:
        """Make room."""
        self._images -= 1
        self._regions -= regions
        self._left.set()


class Run:
    """One run over items. Used once, on one event loop.

    answer: an item's line; see `Asker.answer`. write: called with every item and its line, on the event loop. sync:
    called now and then, in a thread. lost: whether the device is.
    """

    def __init__(
        self,
        answer: Callable[[Item], Awaitable[Line]],
        write: Callable[[Item, Line], Entry | None],
        sync: Callable[[], None] = lambda: None,
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self._answer = answer
        self._write = write
        self._sync = sync
        self._lost = lost
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin no further item; what is under way is answered. Called on the event loop."""
        self._stop.set()

    def abort(self) -> None:
        """End now: what is under way is given up. Called on the event loop."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def over(self, items: Iterable[Item], room: Room) -> bool:
        """Answer the items. Returns whether all were begun and ended, and not stopped before.

        Raises DeviceGoneError, and BatchError where an answer cannot be written; what is under way then is given up.
        """
        gate = _Gate(room)
        async with self._syncing():
            for item in items:
                await self._entered(gate, item.num_regions)
                if self._stop.is_set():
                    break
                task = asyncio.create_task(self._one(item, gate))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            while self._tasks:
                await asyncio.wait(set(self._tasks))
        if self._failure is not None:
            raise self._failure
        return not self._stop.is_set()

    async def _entered(self, gate: _Gate, regions: int) -> None:
        """Wait for room, or for a stop."""
        if gate.has_room(regions):
            await gate.enter(regions)
            return
        entering, stopping = asyncio.ensure_future(gate.enter(regions)), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            entering.cancel()
            stopping.cancel()

    async def _one(self, item: Item, gate: _Gate) -> None:
        try:
            line = await self._line(item)
            self._write(item, line)
        except (BatchError, DeviceGoneError) as error:
            self._failure = self._failure or error
            self.abort()
        except asyncio.CancelledError:
            self.stop()
        finally:
            gate.leave(item.num_regions)

    async def _line(self, item: Item) -> Line:
        """The item's answer, or why there is none."""
        about: Line = {"file": item.file, **({} if item.id is None else {"id": item.id})}
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return {**about, **await self._answer(item)}
            except RetryLaterError as error:
                if self._lost() or time.monotonic() >= until:
                    raise DeviceGoneError(error.detail) from None
                if error.fields:  # of this item, and not of the engine as a whole
                    return {**about, "error": _reason(error)}
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                if self._lost():
                    raise DeviceGoneError(str(error)) from None
                if not isinstance(error, OSError | ModelError | ServiceError):
                    logger.error("%s failed", item.file, exc_info=error)
                return {**about, "error": _reason(error)}

    @asynccontextmanager
    async def _syncing(self) -> AsyncIterator[None]:
        async def again_and_again() -> None:
            while True:
                await asyncio.sleep(SYNC_EVERY_S)
                await asyncio.to_thread(self._sync)

        task = asyncio.create_task(again_and_again())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _reason(error: Exception) -> dict[str, str]:
    """Why an image has no answer: `type`, as in the service's problems, and `detail`, a sentence."""
    if isinstance(error, OSError):
        return {"type": "unreadable", "detail": f"The file cannot be read: {os.strerror(error.errno or 0).lower()}."}
    kind = problem_type_of(error).slug
    if isinstance(error, ServiceError):
        where = f" (at {error.fields[0].pointer})" if error.fields and error.fields[0].pointer else ""
        more = f"; {len(error.fields) - 1} more" if len(error.fields) > 1 else ""
        detail = error.fields[0].detail if error.fields else error.detail
        return {"type": kind, "detail": f"{detail}{where}{more}"}
    if isinstance(error, ImageError | QueryError):
        return {"type": kind, "detail": str(error)}
    return {"type": kind, "detail": f"Something went wrong: {str(error).splitlines()[0] if str(error) else kind}."}
