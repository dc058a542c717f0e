"""Many images, several at a time: outcomes in the order of the images, failures as values, a bar on request."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

from dynrefer.model import ModelError
from dynrefer.service.client.connections import MOST_CONNECTIONS
from dynrefer.service.client.errors import ClientError

if TYPE_CHECKING:
    from tqdm import tqdm

    from dynrefer.model import ImageSource
    from dynrefer.service.client.records import Described, Reported
    from dynrefer.service.client.request_fields import GivenRegion

# An image, whose whole is described, or one with its boxes.
GivenImage: TypeAlias = "ImageSource | tuple[ImageSource, Iterable[GivenRegion] | None]"
Outcome: TypeAlias = "Described | Reported | ClientError | ModelError | OSError"
# What is one image's own misfortune. Others, such as that of an unknown option, would be all images'.
_FAILURES = (ClientError, ModelError, OSError)


def describe_in_threads(
    describe: Callable[[Any, Any], Any], images: Iterable[GivenImage], concurrency: int, progress: bool | None
) -> list[Outcome]:
    """See `Client.describe_many`. describe: of an image and its boxes."""
    queue, ended = _Queue(images, concurrency), threading.Event()

    def work() -> None:
        while not ended.is_set() and (taken := queue.take()) is not None:
            place, image, boxes = taken
            try:
                queue.put(place, describe(image, boxes))
            except _FAILURES as error:
                queue.put(place, error)

    with queue.bar(progress), ThreadPoolExecutor(concurrency, "dynrefer-client") as pool:
        try:
            for future in [pool.submit(work) for _ in range(concurrency)]:
                future.result()
        finally:
            ended.set()  # where one failed, or the user interrupts, the others finish what they are at
    return queue.outcomes()


async def describe_in_tasks(
    describe: Callable[[Any, Any], Awaitable[Any]],
    images: Iterable[GivenImage],
    concurrency: int,
    progress: bool | None,
) -> list[Outcome]:
    """See `AsyncClient.describe_many`."""
    queue = _Queue(images, concurrency)

    async def work() -> None:
        while (taken := queue.take()) is not None:
            place, image, boxes = taken
            try:
                queue.put(place, await describe(image, boxes))
            except _FAILURES as error:
                queue.put(place, error)

    with queue.bar(progress):
        tasks = [asyncio.ensure_future(work()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one that failed ends the others; a task group would wrap its error
                task.cancel()
    return queue.outcomes()


class _Queue:
    """Images that are taken from their source one by one, and their outcomes. Safe to use from several threads."""

    def __init__(self, images: Iterable[GivenImage], concurrency: int) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 0 < concurrency <= MOST_CONNECTIONS:
            raise ValueError(f"concurrency is {concurrency!r:.40}; it is a whole number from 1 to {MOST_CONNECTIONS}.")
        if isinstance(images, str | bytes):
            raise TypeError("images must be a list of images; write one image as [image].")
        self._total = len(images) if isinstance(images, Sized) else None
        self._source: Iterator[tuple[int, GivenImage]] = enumerate(images)
        self._outcomes: dict[int, Outcome] = {}
        self._lock = threading.Lock()
        self._bar: tqdm[Any] | None = None

    def bar(self, progress: bool | None) -> "tqdm[Any]":
        """On standard error: always, never, or (None) where that is a terminal."""
        from tqdm import tqdm

        self._bar = tqdm(total=self._total, unit="image", disable=None if progress is None else not progress)
        return self._bar

    def take(self) -> tuple[int, Any, Any] | None:
        """(place, image, boxes) of the next image; None after the last."""
        with self._lock:
            taken = next(self._source, None)
        if taken is None:
            return None
        place, given = taken
        image, boxes = given if isinstance(given, tuple) else (given, None)
        return place, image, boxes

    def put(self, place: int, outcome: Outcome) -> None:
        """What came of an image."""
        with self._lock:
            self._outcomes[place] = outcome
            if self._bar is not None:
                self._bar.update()

    def outcomes(self) -> list[Outcome]:
        """In the order of the images, once all are there."""
        return [self._outcomes[place] for place in range(len(self._outcomes))]
