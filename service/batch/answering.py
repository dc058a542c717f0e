"""A model and a question: what answers items, in the process of the command or in a worker of a cluster."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from dynrefer.model import Predictor, ResolveVocabulary, forbid_bombs
from dynrefer.service.app import SWITCH_INTERVAL_S, image_workers, loader
from dynrefer.service.batch.asking import Asker, Question
from dynrefer.service.batch.errors import DeviceGoneError
from dynrefer.service.batch.items import Item, Line
from dynrefer.service.batch.journal import Entry
from dynrefer.service.batch.running import Room, Run
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Phase
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.redis_store import open_store
from dynrefer.service.settings import Settings

# By whether regions are to be found, and whether the device is a CPU. An image that is searched may bring 50 regions.
ROOMS: Mapping[tuple[bool, bool], Room] = {
    (False, True): Room(images=24, regions=96),
    (False, False): Room(images=512, regions=1_536),
    (True, True): Room(images=4, regions=1),
    (True, False): Room(images=48, regions=1),
}
STOP_GRACE_S = 5.0  # of the engine, when nothing is left to do
_LOOK_EVERY_S = 0.02  # while the model loads


class Answering:
    """The engine of the service with a model of its own. For one event loop.

    predictor: given by tests; else that of the settings is loaded.
    """

    def __init__(
        self,
        settings: Settings,
        question: Question,
        resolve: ResolveVocabulary,
        predictor: Predictor[Any, Any] | None = None,
    ) -> None:
        self._settings = settings
        self._finds = question.find is not None
        metrics = Metrics()
        self._shared = open_store(settings)
        executor = DeviceThread(settings, loader(settings, predictor, shared=self._shared), metrics)
        self._engine = Engine(executor, image_workers(settings, executor.wait_for_idle_cores, metrics), metrics)
        self._asker = Asker(self._engine, settings, question, resolve)

    def start(self) -> None:
        """Begin to load the model. Called on the event loop."""
        forbid_bombs(self._settings.max_image_pixels)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._engine.start()

    async def loaded(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the model, and for what the words of the question mean to it. Returns whether it is there, and was
        not `stopped` before. Raises ModelError, and DeviceGoneError."""
        while self._engine.phase is Phase.LOADING and not stopped():
            await asyncio.sleep(_LOOK_EVERY_S)
        if self._engine.failure is not None:
            raise self._engine.failure
        if self._engine.lost:
            raise DeviceGoneError("it was gone before the first region.")
        if stopped():
            return False
        await self._asker.prepare()
        return True

    @property
    def revision(self) -> str:
        """Of the model, once it is loaded."""
        return self._engine.card.revision

    @property
    def room(self) -> Room:
        """What may be under way at a time, once the model is loaded."""
        return ROOMS[self._finds, self._engine.card.device == "cpu"]

    def new_run(self, write: Callable[[Item, Line], Entry | None], sync: Callable[[], None] = lambda: None) -> Run:
        """One over items, each of which is written with its line."""
        return Run(self._asker.answer, write, sync, lambda: self._engine.lost)

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the engine; what is under way longer than that is given up."""
        await self._engine.stop(grace_s)
        if self._shared is not None:
            self._shared.close()
