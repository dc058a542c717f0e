"""A run at work on what is left: signals, progress and the journal; and the one whose engine is in this process.

`scale/ray/batch.py` has the other one, whose engines are in the workers of a cluster.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from abc import ABC, abstractmethod
from typing import Any

from dynrefer.model import Predictor, ResolveVocabulary
from dynrefer.service.batch.answering import STOP_GRACE_S, Answering
from dynrefer.service.batch.errors import DeviceGoneError
from dynrefer.service.batch.items import Digest, Item, ItemSource, Line
from dynrefer.service.batch.journal import Entry, Journal
from dynrefer.service.batch.planning import Job, Left, Plan, asked_settings
from dynrefer.service.batch.progress import Progress, counted, duration

ALL_ANSWERED, DEVICE_LOST, SOME_FAILED, INTERRUPTED = 0, 3, 4, 130  # exit codes; 2: what the command line asks


class Session(ABC):
    """What is left of a job, answered once. Lives on one event loop, in the main thread."""

    def __init__(self, job: Job, plan: Plan, source: ItemSource, journal: Journal) -> None:
        self._job, self._plan, self._source, self._journal = job, plan, source, journal
        self._finds = job.question.find is not None
        unit, total = ("images", plan.items_left) if self._finds else ("regions", plan.regions_left)
        self._progress = Progress(total, unit, quiet=job.quiet)
        self._signals = 0
        self._regions = self._images = 0

    async def run(self) -> int:
        """Returns the exit code. Raises as `run_job` does."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        try:
            if not await self._answer_all():
                return self._interrupted()
            self._say_rate()
        except DeviceGoneError as error:
            say(f"the device is lost: {error} What is answered is in the journal: the same command goes on.")
            return DEVICE_LOST
        finally:
            self._progress.close()
            await self._end()
        return ALL_ANSWERED

    @abstractmethod
    async def _answer_all(self) -> bool:
        """Returns whether all is answered, and was not stopped before. Raises
        DeviceGoneError, ModelError and BatchError."""

    @abstractmethod
    def _stop(self) -> None:
        """Begin nothing more: the first signal."""

    @abstractmethod
    def _abort(self) -> None:
        """Give up what is under way: the second."""

    @abstractmethod
    async def _end(self) -> None:
        """Let go of everything."""

    def _say_rate(self) -> None:
        if not self._job.quiet:
            self._progress.close()
            seconds = self._progress.seconds
            rate = f"{self._regions / max(seconds, 1e-9):,.1f} regions/s"
            done = f"{counted(self._images, 'image')}, {counted(self._regions, 'region')}"
            say(f"{done} in {duration(seconds)}: {rate}.")

    def _interrupted(self) -> int:
        done = len(self._journal)
        say(f"stopped: {done:,} of {len(self._plan.order):,} images are answered. The same command goes on.")
        return INTERRUPTED

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._progress.say("dynrefer: stopping: what is under way is answered. A second signal stops at once.")
            self._stop()
        else:
            self._abort()

    def _begin(self, revision: str, ago_s: float = 0.0) -> None:
        """The model is loaded, since so many seconds; before the first answer is written."""
        self._journal.begin({**asked_settings(self._job), "revision": revision})
        self._progress.begin(ago_s)

    def _write(self, digest: Digest, regions_asked: int, line: Line) -> Entry:
        entry = self._journal.append(digest, line)
        self._images += 1
        self._regions += entry.regions
        self._progress.advance(1 if self._finds else regions_asked, entry.failed)
        return entry


class LocalSession(Session):
    """With the engine in this process. predictor: given by tests; else that of the settings is loaded."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        source: ItemSource,
        journal: Journal,
        resolve: ResolveVocabulary,
        predictor: Predictor[Any, Any] | None,
    ) -> None:
        super().__init__(job, plan, source, journal)
        self._answering = Answering(job.settings, job.question, resolve, predictor)
        self._run = self._answering.new_run(self._write_item, journal.sync)

    async def _answer_all(self) -> bool:
        self._answering.start()
        if not await self._answering.loaded(lambda: self._signals > 0):
            return False
        self._begin(self._answering.revision)
        left = Left(self._journal, retry_failed=self._job.retry_failed)
        items = (item for item in self._source.items() if left(item.digest))
        return await self._run.over(items, self._answering.room)

    def _write_item(self, item: Item, line: Line) -> Entry:
        return self._write(item.digest, item.num_regions, line)

    def _stop(self) -> None:
        self._run.stop()

    def _abort(self) -> None:
        self._run.abort()

    async def _end(self) -> None:
        await self._answering.stop(0.0 if self._signals > 1 else STOP_GRACE_S)


def say(sentence: str) -> None:
    """On standard error."""
    print(f"dynrefer: {sentence}", file=sys.stderr, flush=True)
