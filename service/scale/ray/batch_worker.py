"""A worker of a batch run: an engine with a model of its own, in an actor of Ray, that answers shards of items.

It writes nothing. A worker that loses its device ends itself, and Ray starts another one in its place, which is what a
supervisor does with a service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.model import NamedVocabularies, Predictor
from dynrefer.model.errors import ModelError
from dynrefer.service import set_thread_environment
from dynrefer.service.batch.answering import Answering
from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.errors import DeviceGoneError
from dynrefer.service.batch.items import Item, Line
from dynrefer.service.scale.ray.batch_control import MOST_FAILED_LOADS, Verdict
from dynrefer.service.scale.ray.batch_shards import Answered, Problem, Reply, Shard
from dynrefer.service.settings import Settings

logger = logging.getLogger(__name__)

_LOST_DEVICE = 3  # exit code
_CORES_OF_THE_ENGINE = 2  # beside a GPU: the device's thread, and the one that writes answers


@dataclass(frozen=True)
class Assignment:
    """What all workers are told. images: a folder that each must see. home: id of the node of the command, where the
    input is. predictor: given by tests; else that of the settings is loaded. Travels as `ray.cloudpickle` writes it."""

    settings: Settings
    question: Question
    vocabularies: NamedVocabularies
    images: Path
    home: str
    predictor: Predictor[Any, Any] | None = None


class BatchWorker:
    """Called with a shard, from several threads at a time. assignment: pickled. control: a handle of `Control`."""

    def __init__(self, assignment: bytes, control: Any) -> None:
        """Loads nothing yet: an actor that died here would be started again for ever."""
        set_thread_environment()
        self._assignment: Assignment = pickle.loads(assignment)
        self._control = control
        self._where = _elsewhere(self._assignment.home)
        self._loop = asyncio.new_event_loop()
        self._loading: asyncio.Task[Answering | Problem] | None = None
        self._loaded_at = 0.0
        threading.Thread(target=self._loop.run_forever, name="batch", daemon=True).start()

    def __call__(self, shard: Shard) -> Reply:
        """The answers, in the order in which they came. An error of one item is its line."""
        if shard.problem is not None:
            return Reply(problem=shard.problem)
        return asyncio.run_coroutine_threadsafe(self._reply(shard), self._loop).result()

    async def _reply(self, shard: Shard) -> Reply:
        if await self._control.stopped.remote():
            return Reply()
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        loaded = await self._loading
        if isinstance(loaded, Problem):
            return Reply(problem=loaded)
        if await self._control.begin.remote(shard.key) is not Verdict.GO:
            return Reply()
        lines: list[Answered] = []

        def keep(item: Item, line: Line) -> None:
            lines.append(Answered(item.digest, item.num_regions, self._with_place(line)))

        try:
            await loaded.new_run(keep).over(shard.items, loaded.room)
        except DeviceGoneError as error:
            logger.critical("the device is lost: %s", error)
            os._exit(_LOST_DEVICE)
        await self._control.end.remote(shard.key)
        return Reply(tuple(lines), loaded.revision, time.monotonic() - self._loaded_at)

    async def _load(self) -> Answering | Problem:
        """The model, or why it cannot be had."""
        given = self._assignment
        if not given.images.is_dir():
            return Problem(
                "input",
                f"the machine {self._where or 'of a worker'} does not see {given.images}: give a folder that all "
                "machines of the cluster see under this path.",
            )
        if not await self._control.loading.remote():
            return Problem("device", f"workers died {MOST_FAILED_LOADS} times each while they loaded the model.")
        try:
            answering = Answering(
                _own_settings(given.settings), given.question, given.vocabularies.resolve, given.predictor
            )
            answering.start()
            await answering.loaded()
        except ModelError as error:
            return Problem("model", f"{error}{f' (on {self._where})' if self._where else ''}")
        except DeviceGoneError as error:
            return Problem("device", f"{error}{f' (on {self._where})' if self._where else ''}")
        self._loaded_at = time.monotonic()
        await self._control.loaded.remote()
        return answering

    def _with_place(self, line: Line) -> Line:
        """Which machine cannot read a file, where that is not the one of the command."""
        error = line.get("error", {})
        if self._where and error.get("type") == "unreadable":
            error["detail"] = error["detail"].replace("cannot be read:", f"cannot be read on {self._where}:", 1)
        return line


def _elsewhere(home: str) -> str:
    """The address of this node; empty where it is the command's own."""
    import ray

    return "" if ray.get_runtime_context().get_node_id() == home else str(ray.util.get_node_ip_address())


def _own_settings(settings: Settings) -> Settings:
    """What is chosen by the machine: the device that Ray gave this actor, and a part of the cores beside it."""
    import ray

    context = ray.get_runtime_context()
    gpus = float(context.get_assigned_resources().get("GPU", 0))
    if not gpus:
        return settings.model_copy(update={"device": "cpu"})
    own: dict[str, Any] = {"device": "cuda"}  # the only one that this process sees
    if settings.worker_processes is None:
        nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        all_gpus = float(nodes.get(context.get_node_id(), {}).get("GPU", 1)) or 1.0
        own["worker_processes"] = max(2, int(len(os.sched_getaffinity(0)) * gpus / all_gpus) - _CORES_OF_THE_ENGINE)
    return settings.model_copy(update=own)
