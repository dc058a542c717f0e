"""One run of `dynrefer batch`, from the input to the files: plan, go on from the journal, answer the rest, write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynrefer.model import NamedVocabularies, Predictor, ResolveVocabulary, forbid_bombs
from dynrefer.service.app import SWITCH_INTERVAL_S, image_workers, loader
from dynrefer.service.batch.answers import Answers, Order
from dynrefer.service.batch.asking import Asker, Question, read_question
from dynrefer.service.batch.errors import BatchError, DeviceGoneError
from dynrefer.service.batch.items import Item, ItemSource, Line
from dynrefer.service.batch.journal import Entry, Journal, journal_path
from dynrefer.service.batch.outputs import (
    check_free,
    check_place,
    failures_path,
    output_of,
    write_failures,
    write_output,
)
from dynrefer.service.batch.progress import Progress, counted, duration
from dynrefer.service.batch.running import Room, Run
from dynrefer.service.batch.sources import open_source
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Phase
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.redis_store import open_store
from dynrefer.service.settings import Settings

ALL_ANSWERED, DEVICE_LOST, SOME_FAILED, INTERRUPTED = 0, 3, 4, 130  # exit codes; 2: what the command line asks

# By whether regions are to be found, and whether the device is a CPU. An image that is searched may bring 50 regions.
ROOMS: Mapping[tuple[bool, bool], Room] = {
    (False, True): Room(images=24, regions=96),
    (False, False): Room(images=512, regions=1_536),
    (True, True): Room(images=4, regions=1),
    (True, False): Room(images=48, regions=1),
}
STOP_GRACE_S = 5.0  # of the engine, when nothing is left to do


@dataclass(frozen=True)
class Job:
    """What the command line asks for.

    given: IN. out, also: files to write; the journal belongs to `out`. boxes, images, format: see `open_source`.
    vocabularies: names -> words, for the question. retry_failed: whether images and regions that failed are tried
    again. overwrite: whether files may be replaced that no earlier run wrote. quiet: no progress.
    """

    given: Path
    out: Path
    question: Question
    settings: Settings
    also: tuple[Path, ...] = ()
    boxes: Path | None = None
    images: Path | None = None
    format: str | None = None
    vocabularies: NamedVocabularies | None = None
    retry_failed: bool = False
    overwrite: bool = False
    quiet: bool = False


def run_job(job: Job, predictor: Predictor[Any, Any] | None = None) -> int:
    """Returns the exit code. Raises BatchError for what cannot be used, SettingsError for a shared cache that cannot,
    and ModelError for such a model.

    predictor: given by tests; else that of the settings is loaded. Signals are handled meanwhile: call it in the main
    thread.
    """
    outputs = [output_of(path) for path in (job.out, *job.also)]
    source, images = open_source(
        job.given,
        job.boxes,
        job.images,
        job.format,
        find=job.question.find is not None,
        written=[each.path for each in outputs],
    )
    resolve = (job.vocabularies or NamedVocabularies()).resolve
    with refusals():
        read_question(job.question, job.settings, resolve)
    for output in outputs:
        check_place(output, job.given, (job.given, job.boxes))
    with Journal(journal_path(job.out)) as journal:
        for path in (*(each.path for each in outputs), failures_path(job.out)):
            check_free(path, journal, overwrite=job.overwrite)
        journal.check(asked_settings(job))
        if journal.cut:
            _say(f"the end of {journal.path} was torn ({journal.cut} bytes); it is done again.")
        plan = Plan.of(source, journal, retry_failed=job.retry_failed)
        if not plan.order:
            raise BatchError(f"{job.given} brings no regions and no images.")
        code = ALL_ANSWERED
        if plan.items_left:
            code = asyncio.run(_Session(job, plan, source, journal, resolve, predictor).run())
            interrupt_on_sigterm()  # again: the event loop has put its own handlers away
        answers = Answers(journal, plan.order, images)
        failed = write_failures(failures_path(job.out), answers)
        if code != ALL_ANSWERED:
            return code
        for output in outputs:
            write_output(output, answers)
        if failed:
            _say(f"{failed} failed; {failures_path(job.out)} says why. --retry-failed tries them again.")
        return SOME_FAILED if failed else ALL_ANSWERED


def interrupt_on_sigterm() -> None:
    """Where no run handles it, SIGTERM ends the command as SIGINT does. In the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What the service would refuse of a request is a usage error of the command."""
    try:
        yield
    except InvalidRequestError as error:
        where = "".join(f" ({each.pointer.strip('/')})" for each in error.fields[:1] if each.pointer)
        detail = error.fields[0].detail if error.fields else error.detail
        raise BatchError(f"{detail}{where}") from None


def asked_settings(job: Job) -> dict[str, Any]:
    """What the answers depend on, besides the items and the model's revision; as JSON has it."""
    question, find = job.question, job.question.find
    found: dict[str, Any] = {"model": job.settings.model, "find": find is not None, **question.fields}
    if find is not None:
        found |= {f"find_{name}": value for name, value in asdict(find).items()}
        found |= {"finder": job.settings.finder, "describe": question.describe_found}
    return _as_json(found)


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value, default=str))
    return found


@dataclass
class Plan:
    """What is there to do. order: all items. items_left, regions_left: those without an answer."""

    order: Order
    items_left: int = 0
    regions_left: int = 0

    @classmethod
    def of(cls, source: ItemSource, journal: Journal, *, retry_failed: bool) -> Plan:
        """By one pass over the input."""
        plan, left = cls(Order()), Left(journal, retry_failed=retry_failed)
        for item in source.items():
            digest = item.digest
            plan.order.append(digest)
            if left(digest):
                plan.items_left += 1
                plan.regions_left += item.num_regions
        return plan


class Left:
    """Which items are to be asked. Called once for each, in the order of the input: the second of two that are the same
    has the answer of the first."""

    def __init__(self, journal: Journal, *, retry_failed: bool) -> None:
        self._journal = journal
        self._retry_failed = retry_failed
        self._begun: set[bytes] = set()

    def __call__(self, digest: bytes) -> bool:
        entry = self._journal.get(digest)
        wanted = entry is None or (self._retry_failed and entry.failed > 0)
        if not wanted or digest in self._begun:
            return False
        self._begun.add(digest)
        return True


class _Session:
    """The engine at work on what is left. Used once."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        source: ItemSource,
        journal: Journal,
        resolve: ResolveVocabulary,
        predictor: Predictor[Any, Any] | None,
    ) -> None:
        self._job, self._plan, self._source, self._journal = job, plan, source, journal
        metrics = Metrics()
        self._shared = open_store(job.settings)
        executor = DeviceThread(job.settings, loader(job.settings, predictor, shared=self._shared), metrics)
        self._engine = Engine(executor, image_workers(job.settings, executor.wait_for_idle_cores, metrics), metrics)
        self._asker = Asker(self._engine, job.settings, job.question, resolve)
        self._run = Run(self._asker.answer, self._write, journal.sync, lambda: self._engine.lost)
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
        forbid_bombs(self._job.settings.max_image_pixels)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._engine.start()
        try:
            return await self._answer_all()
        finally:
            self._progress.close()
            await self._engine.stop(0.0 if self._signals > 1 else STOP_GRACE_S)
            if self._shared is not None:
                self._shared.close()

    async def _answer_all(self) -> int:
        try:
            if not await self._loaded():
                return self._interrupted()
            self._journal.begin({**asked_settings(self._job), "revision": self._engine.card.revision})
            await self._asker.prepare()
            left = Left(self._journal, retry_failed=self._job.retry_failed)
            items = (item for item in self._source.items() if left(item.digest))
            self._progress.begin()
            if not await self._run.over(items, ROOMS[self._finds, self._engine.card.device == "cpu"]):
                return self._interrupted()
        except DeviceGoneError as error:
            _say(f"the device is lost: {error} What is answered is in the journal: the same command goes on.")
            return DEVICE_LOST
        if not self._job.quiet:
            self._progress.close()
            seconds = self._progress.seconds
            rate = f"{self._regions / max(seconds, 1e-9):,.1f} regions/s"
            done = f"{counted(self._images, 'image')}, {counted(self._regions, 'region')}"
            _say(f"{done} in {duration(seconds)}: {rate}.")
        return ALL_ANSWERED

    async def _loaded(self) -> bool:
        """Wait for the model. Returns whether it is there, and not a signal came first. Raises ModelError, and
        DeviceGoneError."""
        while self._engine.phase is Phase.LOADING and not self._signals:
            await asyncio.sleep(0.02)
        if self._engine.failure is not None:
            raise self._engine.failure
        if self._engine.lost:
            raise DeviceGoneError("it was gone before the first region.")
        return not self._signals

    def _interrupted(self) -> int:
        done = len(self._journal)
        _say(f"stopped: {done:,} of {len(self._plan.order):,} images are answered. The same command goes on.")
        return INTERRUPTED

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._progress.say("dynrefer: stopping: what is under way is answered. A second signal stops at once.")
            self._run.stop()
        else:
            self._run.abort()

    def _write(self, item: Item, line: Line) -> Entry:
        entry = self._journal.append(item.digest, line)
        self._images += 1
        self._regions += entry.regions
        self._progress.advance(1 if self._finds else item.num_regions, entry.failed)
        return entry


def _say(sentence: str) -> None:
    print(f"dynrefer: {sentence}", file=sys.stderr, flush=True)
