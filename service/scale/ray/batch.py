"""`dynrefer batch --engine ray`: the items of a run answered by workers of a Ray cluster, and journalled here.

Exactly once is a matter of the journal, as without Ray: answers come back to the command, which appends them under the
digest of their item; the outputs are written from it. So a run that was killed goes on with either engine, in whatever
way it ended, and no folder has to be shared but that of the images.

Ray Data tries a shard again whose worker died. What three workers died of is asked for once more, an item at a time, so
that an item that kills its worker fails alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model import NamedVocabularies, Predictor
from dynrefer.model.errors import ModelError
from dynrefer.service.batch.answering import ROOMS
from dynrefer.service.batch.answers import Order
from dynrefer.service.batch.errors import BatchError, DeviceGoneError
from dynrefer.service.batch.items import Item, ItemSource, Line
from dynrefer.service.batch.journal import Journal, encode_line
from dynrefer.service.batch.planning import Job, Left, Plan
from dynrefer.service.batch.progress import counted
from dynrefer.service.batch.running import SYNC_EVERY_S, Room
from dynrefer.service.batch.session import Session, say
from dynrefer.service.scale.ray.batch_control import TRIES, Control
from dynrefer.service.scale.ray.batch_shards import ONE_BY_ONE, Pool, Problem, Reply, Wanted, replies, stream
from dynrefer.service.scale.ray.batch_worker import Assignment, BatchWorker
from dynrefer.service.scale.ray.cluster import ClusterSettings, alive, cluster
from dynrefer.service.scale.ray.gpus import gpus_of_cluster, gpus_of_each, lack_of_gpus
from dynrefer.service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from ray.data import Dataset

MOST_SILENT = 3  # questions to the cluster without an answer, one after the other; Ray itself ends the process later
SHARDS_AT_ONCE = 2  # of a worker
SHARDS_OF_A_WORKER = 4  # at least, where there are enough items: the last ones end at about the same time

_DIED = {
    "type": "worker-died",
    "detail": f"Each of {TRIES} workers that were asked about the image alone died of it.",
}


def answer_on_ray(
    job: Job,
    plan: Plan,
    source: ItemSource,
    images: Path,
    journal: Journal,
    predictor: Predictor[Any, Any] | None,
) -> int:
    """What is left. Returns the exit code. Raises as `run_job` does."""
    settings = job.settings
    wanted = ClusterSettings(
        address=settings.ray_address or None,
        cpus=max(os.cpu_count() or 1, math.ceil(settings.replicas * settings.replica_cpus)),
        object_store_bytes=settings.object_store_bytes or None,
    )
    try:
        with cluster(wanted):
            return asyncio.run(RaySession(job, plan, source, images, journal, predictor).run())
    except SettingsError as error:
        raise BatchError(str(error)) from None


class RaySession(Session):
    """Within a cluster."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        source: ItemSource,
        images: Path,
        journal: Journal,
        predictor: Predictor[Any, Any] | None,
    ) -> None:
        super().__init__(job, plan, source, journal)
        import ray

        _quiet_ray_data()
        self._since = journal.end
        self._revision = ""
        self._home = ray.get_runtime_context().get_node_id()
        self._gpus = _gpus_of_a_worker(job.settings)
        at_home = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(self._home, soft=False)
        control = ray.remote(Control).options(num_cpus=0, scheduling_strategy=at_home)
        self._control: Any = control.remote(job.settings.replicas)
        assignment = Assignment(
            _for_any_folder(job.settings.without_secrets()),
            job.question,
            job.vocabularies or NamedVocabularies(),
            images.absolute(),
            self._home,
            predictor,
        )
        self._assignment = ray.cloudpickle.dumps(assignment)
        self._aborted = asyncio.Event()

    async def _answer_all(self) -> bool:
        await self._ask(self._shard(), SHARDS_AT_ONCE)
        if not self._signals and (left := sum(1 for _ in self._left())):
            say(f"{counted(left, 'image')} left by workers that died {TRIES} times; each is now asked alone.")
            await self._control.begin_again.remote()
            await self._ask(ONE_BY_ONE, 1)
        if self._signals:
            return False
        for item in self._left():
            about: Line = {"file": item.file, **({} if item.id is None else {"id": item.id})}
            self._write(encode_line(item.digest, {**about, "error": _DIED}), item.num_regions)
        return True

    def _shard(self) -> Room:
        """As much as keeps a device busy; less where not all workers would have several then."""
        room, parts = ROOMS[self._finds, not self._gpus], self._job.settings.replicas * SHARDS_OF_A_WORKER
        images, regions = math.ceil(self._plan.items_left / parts), math.ceil(self._plan.regions_left / parts)
        return Room(max(1, min(room.images, images)), max(1, min(room.regions, regions)))

    def _left(self) -> Iterator[Item]:
        """What this run has to answer, and has not."""
        left = Left(self._journal, retry_failed=self._job.retry_failed, since=self._since)
        return (item for item in self._source.items() if left(item.digest))

    async def _ask(self, shard: Room, at_once: int) -> None:
        """Put what is left to the workers, and journal what they reply."""
        left, skip = Left(self._journal, retry_failed=self._job.retry_failed, since=self._since), Order()
        for digest in self._plan.order:
            if not left(digest):
                skip.append(digest)
        settings = self._job.settings
        pool = Pool(settings.replicas, self._gpus, settings.replica_cpus, at_once, self._home)
        data = stream(Wanted(self._source, skip, shard), pool, BatchWorker, (self._assignment, self._control))
        taking, aborted = asyncio.create_task(self._take_all(data)), asyncio.create_task(self._aborted.wait())
        await asyncio.wait({taking, aborted}, return_when=asyncio.FIRST_COMPLETED)
        aborted.cancel()
        if taking.done():
            taking.result()
        else:
            taking.cancel()

    async def _take_all(self, data: Dataset) -> None:
        """Ray Data blocks whoever reads it: a thread does, which waits until each reply is journalled."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def read() -> None:
            try:
                for reply in replies(data):
                    asyncio.run_coroutine_threadsafe(self._take(reply), loop).result()
            except BaseException as error:
                ended: BaseException | None = error
            else:
                ended = None
            with contextlib.suppress(RuntimeError):  # a second signal has closed the loop
                loop.call_soon_threadsafe(_settle, over, ended)

        threading.Thread(target=read, name="replies", daemon=True).start()
        silent = 0
        while not over.done():
            await asyncio.wait({over}, timeout=SYNC_EVERY_S)
            await asyncio.to_thread(self._journal.sync)
            silent = 0 if await asyncio.to_thread(alive) else silent + 1
            if silent >= MOST_SILENT and not over.done():
                raise DeviceGoneError("the Ray cluster does not answer any more.")
        over.result()

    async def _take(self, reply: Reply) -> None:
        if reply.problem is not None:
            raise _error_of(reply.problem)
        if not reply.lines:
            return
        if not self._revision:
            self._revision = reply.revision
            self._begin(reply.revision, reply.loaded_s)
        if reply.revision != self._revision:
            raise BatchError(
                f"workers have different models, of the revisions {self._revision} and {reply.revision}: give all "
                f"machines the same files of {self._job.settings.model}."
            )
        for answered in reply.lines:
            entry = self._journal.get(answered.line.digest)
            if entry is None or entry.offset < self._since:  # else a shard was answered twice
                self._write(answered.line, answered.regions)

    def _stop(self) -> None:
        self._control.stop.remote()

    def _abort(self) -> None:
        self._aborted.set()

    async def _end(self) -> None:
        """The cluster's end takes the workers with it."""


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _error_of(problem: Problem) -> Exception:
    kinds: dict[str, type[Exception]] = {"model": ModelError, "device": DeviceGoneError, "input": BatchError}
    return kinds[problem.kind](problem.sentence)


def _gpus_of_a_worker(settings: Settings) -> float:
    """As asked; else one where the cluster has any and the device is not a CPU. Raises BatchError where the cluster is
    this run's own and does not have them."""
    of_cluster = gpus_of_cluster()
    if lack := lack_of_gpus(settings, of_cluster):
        if not settings.ray_address:
            raise BatchError(f"{lack}.")
        say(f"{lack}; until then workers wait for them.")
    return gpus_of_each(settings, of_cluster)


def _for_any_folder(settings: Settings) -> Settings:
    """With directories that are found from any working directory."""
    given = {name: getattr(settings, name) for name in ("model", "finder", "segmenter")}
    return settings.model_copy(
        update={name: str(Path(value).absolute()) for name, value in given.items() if value and Path(value).is_dir()}
    )


def _quiet_ray_data() -> None:
    """Its words go to its file alone: what a user has to know is said by us."""
    import ray.data  # noqa: F401  # sets its logger up

    logger = logging.getLogger("ray.data")
    # Taken off, not set to a level: it is given the handlers of the root logger too, and those are everybody's.
    for handler in list(logger.handlers):
        if type(handler).__name__ != "SessionFileHandler":
            logger.removeHandler(handler)
