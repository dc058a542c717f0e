"""Another model while the service goes on.

The new model is loaded and warmed up by an executor of its own, beside the one that serves. Then new requests are
answered by it, while those that hold the old one are finished on that; the old one is ended once nobody holds it, and
its memory is given back. Where the new one cannot be loaded, the old one has never stopped serving.

Where there is no memory for both, the old one can be ended first (`unload_first`): until the new one is there, requests
are told to come again; where it cannot be loaded, the old one is loaded again.

One switch at a time. It goes on when whoever asked for it stops waiting, and is given up when the service shuts down.
The loss of a model that is being loaded, or of one that is being ended, is logged; only that of the model that serves
ends the process.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dynrefer.model import release_memory
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Executor, Phase
from dynrefer.service.engine.serving import WATCH_EVERY_S, ModelSource, Serving
from dynrefer.service.errors import ConflictError, DeadlineExceeded, ModelNotLoadedError, UnavailableError
from dynrefer.service.observability.metrics import Metrics

logger = logging.getLogger(__name__)

SHUTTING_DOWN = "The service is shutting down."


@dataclass(frozen=True, slots=True)
class Switch:
    """One attempt. pointer: to what named the model, in the request. by: the name of the administrator's key."""

    source: ModelSource
    pointer: str = "/model"
    unload_first: bool = False
    by: str | None = None

    @property
    def outcome(self) -> str:
        """Of one that succeeds, in the metrics."""
        return "rolled_back" if self.pointer == "/previous" else "switched"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last attempt that failed did so."""

    source: ModelSource
    sentence: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReloadState:
    """What there is to know. serving: the model that serves. previous: what served before it. loading: what is being
    loaded. ending: whether requests are still being answered by the model before."""

    serving: Serving
    previous: ModelSource | None
    loading: ModelSource | None
    ending: bool
    last_failure: Failure | None


class _GivenUp(Exception):
    """The service shuts down."""


class Reloading:
    """make: the executor of a model, not started. Used by the event loop alone."""

    def __init__(self, engine: Engine, make: Callable[[ModelSource], Executor[Any, Any]], metrics: Metrics) -> None:
        self._engine = engine
        self._make = make
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None
        self._state = ReloadState(engine.serving, None, None, False, None)

    @property
    def state(self) -> ReloadState:
        """As of now."""
        return self._state

    @property
    def previous(self) -> ModelSource:
        """What a roll back loads. Raises ConflictError where no other model has served yet."""
        if self._state.previous is None:
            raise ConflictError("There is no previous model: none was switched since the service was started.")
        return self._state.previous

    async def switch(self, asked: Switch, timeout_s: float) -> None:
        """Switch, and wait until new requests are answered by the new model and the old one is ended.

        Raises ConflictError while another switch is under way, UnavailableError unless the service is ready,
        ModelNotLoadedError, and DeadlineExceeded after so many seconds, in which case it goes on.
        """
        if self._task is not None and not self._task.done():
            raise ConflictError("A model is being loaded or ended already; wait until that is done.")
        with self._engine.model():
            pass  # raises unless ready
        task = self._task = asyncio.create_task(self._run(asked))
        task.add_done_callback(_retrieve)  # nobody may wait for it any more; the log has what went wrong
        until = time.monotonic() + timeout_s
        while not task.done():
            if self._engine.phase is Phase.DRAINING:
                raise UnavailableError(SHUTTING_DOWN)
            if time.monotonic() >= until:
                raise DeadlineExceeded(
                    "The switch takes longer than this request may, and goes on; GET /v1/models/reload says how it is."
                )
            await asyncio.wait({task}, timeout=WATCH_EVERY_S)
        task.result()

    async def stop(self) -> None:
        """Give up what is under way, before the engine is stopped. Whoever asked for it is told by `switch`."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task

    async def _run(self, asked: Switch) -> None:
        logger.info("loading the model %s, asked for by %s", asked.source.name, asked.by or "an administrator")
        self._state = replace(self._state, loading=asked.source)
        began, outcome = time.monotonic(), "given_up"
        try:
            await (self._instead(asked) if asked.unload_first else self._beside(asked))
            outcome = asked.outcome
        except ModelNotLoadedError as error:
            outcome = "failed"
            self._state = replace(self._state, last_failure=Failure(asked.source, error.detail, _now()))
            logger.error("the model %s was not loaded: %s", asked.source.name, error.detail)
            raise
        except _GivenUp:
            raise UnavailableError(SHUTTING_DOWN) from None
        finally:
            self._metrics.model_switches.labels(outcome).inc()
            # Whichever of the two was given up: nothing refers to it any more.
            await asyncio.to_thread(release_memory)
            self._state = replace(self._state, loading=None, ending=False)
        logger.info("%s: %s after %.1f s", outcome.replace("_", " "), asked.source.name, time.monotonic() - began)

    async def _beside(self, asked: Switch) -> None:
        """Load the new model, let it serve, end the old one."""
        new, old = Serving(asked.source, self._make(asked.source)), self._engine.serving
        models = self._engine.models
        models.begin(new)
        if (flaw := await self._loaded(new)) is not None:
            await models.end(new, self._draining)
            del new, old
            raise ModelNotLoadedError.at(asked.pointer, f"{flaw} The model that served goes on.")
        models.let_serve(new)
        models.rely_on(new)
        self._serves(new, old.source, asked)
        await self._end(old)

    async def _instead(self, asked: Switch) -> None:
        """End the old model, load the new one, and the old one again where that fails."""
        new, old = Serving(asked.source, self._make(asked.source)), self._engine.serving
        models, before = self._engine.models, old.source
        models.rely_on(None)
        models.let_serve(new)  # not loaded yet: requests are told so
        self._state = replace(self._state, serving=new, ending=True)
        await self._end(old)
        del old
        await asyncio.to_thread(release_memory)
        if self._draining():
            raise _GivenUp
        self._state = replace(self._state, ending=False)
        models.begin(new)
        if (flaw := await self._loaded(new)) is None:
            models.rely_on(new)
            self._serves(new, before, asked)
            return
        logger.error("the model %s cannot be loaded (%s); %s is loaded again", asked.source.name, flaw, before.name)
        again = Serving(before, self._make(before))
        models.let_serve(again)
        self._state = replace(self._state, serving=again)
        await models.end(new, self._draining)
        del new
        await asyncio.to_thread(release_memory)
        models.rely_on(again)  # where that fails too there is nothing to serve: the process ends
        models.begin(again)
        lost = await self._loaded(again) is not None
        after = "cannot be loaded again either: the service ends." if lost else "was loaded again."
        raise ModelNotLoadedError.at(asked.pointer, f"{flaw} The model that served before {after}")

    def _serves(self, new: Serving, before: ModelSource, asked: Switch) -> None:
        """Note and log that new requests are answered by the new model."""
        self._state = replace(self._state, serving=new, previous=before, loading=None, ending=not asked.unload_first)
        logger.info(
            "the model is now %s (%s, revision %s) instead of %s, by key %s",
            *(new.source.name, new.card.name, new.card.revision, before.name, asked.by),
            extra={"fields": {"model": new.source.name, "previous_model": before.name, "key": asked.by}},
        )

    async def _end(self, old: Serving) -> None:
        """End a model that serves no more; its memory is given back once the caller lets go of it."""
        await self._engine.models.end(old, self._draining)
        if old.executor.lost:
            logger.error("the model %s was lost while it was ended; what hangs keeps its memory", old.source.name)

    async def _loaded(self, model: Serving) -> str | None:
        """Wait until a model is loaded and warm; what went wrong, as a sentence, where it is not. Raises _GivenUp."""
        executor = model.executor
        while executor.phase is Phase.LOADING:
            if self._draining():
                raise _GivenUp
            await asyncio.sleep(WATCH_EVERY_S)
        if executor.failure is not None:
            # Where the folder of models lies is nothing for whoever asks over HTTP.
            sentence = str(executor.failure).replace(model.source.location, model.source.name)
            return sentence[:1].upper() + sentence[1:]
        return "The device was lost while the model was loaded." if executor.lost else None

    def _draining(self) -> bool:
        return self._engine.phase is Phase.DRAINING


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
