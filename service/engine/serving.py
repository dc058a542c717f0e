"""A model that answers requests, and how many hold it.

Another model may take its place at any time (`reloading.py`). A request therefore takes the model once, by
`Engine.model`, and has its executor, its predictor and its card until its answer is written: a model is not ended
before nobody holds it any more.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dynrefer.model import ModelCard, Predictor
from dynrefer.service.engine.executor import Executor, ExecutorCounts, Phase

WATCH_EVERY_S = 0.02  # a model that is loaded or ended beside the one that serves


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from. name: as the settings or an administrator call it. location: what loads it by."""

    name: str
    location: str


class Serving:
    """source: of its model. executor: runs its regions. Touched by the event loop alone."""

    def __init__(self, source: ModelSource, executor: Executor[Any, Any]) -> None:
        self.source = source
        self.executor = executor
        self._holders = 0

    @property
    def predictor(self) -> Predictor[Any, Any]:
        """Of a model that is loaded, as everything is that a request holds."""
        predictor = self.executor.predictor
        assert predictor is not None, "a model that is not loaded was held"
        return predictor

    @property
    def card(self) -> ModelCard:
        """What is known about it."""
        return self.predictor.card

    @property
    def held(self) -> bool:
        """Whether a request is being answered by it."""
        return self._holders > 0

    @contextmanager
    def hold(self) -> Iterator["Serving"]:
        """Keep it until the block is left."""
        self._holders += 1
        try:
            yield self
        finally:
            self._holders -= 1


class Models:
    """The model that serves, and those beside it: being loaded, or answering the last requests that hold them.

    first: the one that the service is started with. Touched by the event loop alone, but for `counts`.
    """

    def __init__(self, first: Serving) -> None:
        self.serving = first
        self._beside: list[Serving] = []
        self._relied_on: Serving | None = first
        self._on_loss: Callable[[], None] = lambda: None

    def start(self, on_loss: Callable[[], None]) -> None:
        """Begin loading the first one. on_loss: called in a thread when the model that is relied on is lost."""
        self._on_loss = on_loss
        self.begin(self.serving)

    def begin(self, model: Serving) -> None:
        """Begin loading a model, beside the one that serves unless it is that one."""
        if model is not self.serving:
            self._beside.append(model)
        model.executor.start(partial(self._lost, model))

    def let_serve(self, model: Serving) -> None:
        """New requests are answered by this model from now on; those that hold another one keep it."""
        self._beside = [each for each in (*self._beside, self.serving) if each is not model]
        self.serving = model

    def rely_on(self, model: Serving | None) -> None:
        """The loss of this model, and of no other, ends the service. At first that is the first one."""
        self._relied_on = model
        if model is not None and model.executor.lost:
            self._on_loss()

    async def end(self, model: Serving, shutting_down: Callable[[], bool]) -> None:
        """End a model that does not serve, once no request holds it. Where the service shuts down, that is left to
        `close`."""
        while model.held:
            if shutting_down():
                return
            await asyncio.sleep(WATCH_EVERY_S)
        model.executor.close()
        while model.executor.phase is not Phase.LOST and not shutting_down():
            await asyncio.sleep(WATCH_EVERY_S)
        self._beside = [each for each in self._beside if each is not model]

    def close(self) -> None:
        """Let all end once what they have admitted has run."""
        for model in (self.serving, *self._beside):
            model.executor.close()

    def counts(self) -> ExecutorCounts:
        """Of the model that serves, with the regions of all. Called in any thread."""
        counts, beside = self.serving.executor.counts, [each.executor.counts for each in self._beside]
        waiting = counts.waiting + sum(each.waiting for each in beside)
        return replace(counts, waiting=waiting, running=counts.running + sum(each.running for each in beside))

    def _lost(self, model: Serving) -> None:
        if model is self._relied_on:
            self._on_loss()
