"""Another model while requests are answered: which one answers, what is ended when, and what a failure leaves."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from dynrefer.model import Corners, DecodedImage, ImageInfo, RegionQuery
from dynrefer.model.errors import DeviceLostError, ModelNotFoundError
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Phase
from dynrefer.service.engine.reloading import Reloading, Switch
from dynrefer.service.engine.serving import ModelSource, Serving
from dynrefer.service.errors import ConflictError, DeadlineExceeded, ModelNotLoadedError, UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings
from dynrefer.service.workers.image_task import DescribeInput
from dynrefer.service.workers.threads import WorkerThreads
from tests.fakes import CARD, FakePredictor, context_of

WAIT_S = 10.0
IMAGE = DecodedImage(np.zeros((48, 64, 3), dtype=np.uint8), ImageInfo(64, 48))
FIRST, SECOND = ModelSource("first", "first"), ModelSource("second", "/models/second")

Load = Callable[[], FakePredictor]


def predictor(name: str, **options: Any) -> FakePredictor:
    return FakePredictor(card=replace(CARD, name=name, revision=f"of {name}"), **options)


@dataclass
class Scene:
    """An engine that can load the models of `loads`. lost: whether the service was told that its device is gone."""

    loads: dict[str, Load]
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics, self.lost = Metrics(), threading.Event()
        workers = WorkerThreads(2, lambda: None, self.metrics)
        self.engine = Engine(self._executor(FIRST), workers, self.metrics, FIRST)
        self.reloading = Reloading(self.engine, self._executor, self.metrics)

    def _executor(self, source: ModelSource) -> DeviceThread[Any, Any]:
        settings = Settings(**{"device_grace_s": 0.05, **self.settings})
        return DeviceThread(settings, lambda: self.loads[source.name](), self.metrics)

    async def started(self) -> "Scene":
        self.engine.start(self.lost.set)
        await until(lambda: self.engine.phase is Phase.READY)
        return self

    async def switch(self, source: ModelSource = SECOND, timeout_s: float = WAIT_S, **options: Any) -> None:
        await self.reloading.switch(Switch(source, by="boss", **options), timeout_s)

    async def answered_by(self) -> str:
        """The name of the model that answers a request."""
        with self.engine.model() as model:
            await describe(self.engine, model)
            return model.card.name

    async def stop(self) -> None:
        await self.reloading.stop()
        await self.engine.stop(grace_s=WAIT_S)

    def metric(self, metric: str, /, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, labels)


async def describe(engine: Engine, model: Serving | None = None) -> None:
    request = DescribeInput(1, b"", lambda data, on_header: IMAGE, lambda info: [RegionQuery(box=(0.0, 0.0, 5.0, 5.0))])
    await engine.describe(request, context_of(), model)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():
            await asyncio.sleep(0.002)


def play(loads: dict[str, Load], act: Callable[[Scene], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Start an engine with the model `first`, act, and stop it."""

    async def scene() -> None:
        there = await Scene({"first": lambda: predictor("first"), **loads}, settings).started()
        try:
            await act(there)
        finally:
            await there.stop()

    asyncio.run(scene())


SECOND_LOADS: dict[str, Load] = {"second": lambda: predictor("second")}


def test_new_requests_are_answered_by_the_new_model_and_those_before_by_the_old_one() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: object) -> None:
        began.set()
        assert gate.wait(WAIT_S)

    async def act(scene: Scene) -> None:
        first: Any = scene.engine.serving.predictor
        first.run_hook = hold
        early = asyncio.ensure_future(scene.answered_by())
        await until(began.is_set)
        switch = asyncio.ensure_future(scene.switch())
        await until(lambda: scene.engine.card.name == "second")
        assert await scene.answered_by() == "second"
        assert scene.reloading.state.ending and not switch.done() and not early.done()
        assert scene.metric("dynrefer_device_regions") == 1.0  # the old one's
        gate.set()
        assert await early == "first"
        await switch
        state = scene.reloading.state
        assert (state.serving.source, state.previous, state.loading, state.ending) == (SECOND, FIRST, None, False)
        assert scene.metric("dynrefer_model_switches_total", outcome="switched") == 1.0
        assert not scene.lost.is_set()

    play(SECOND_LOADS, act)


def test_a_request_keeps_its_model_from_its_first_step_to_its_last() -> None:
    """Also where it has nothing in the queue while the other one takes over: the old one waits for it."""

    async def act(scene: Scene) -> None:
        with scene.engine.model() as model:
            switch = asyncio.ensure_future(scene.switch())
            await until(lambda: scene.engine.card.name == "second")
            await asyncio.sleep(0.1)
            assert not switch.done()
            await describe(scene.engine, model)
            assert model.card.name == "first"
        await switch

    play(SECOND_LOADS, act)


def test_metrics_and_readiness_follow_the_model_that_serves() -> None:
    async def act(scene: Scene) -> None:
        assert scene.metric("dynrefer_model_info", name="first", revision="of first") == 1.0
        await scene.switch()
        assert scene.engine.phase is Phase.READY
        assert scene.metric("dynrefer_model_info", name="second", revision="of second") == 1.0
        assert scene.metric("dynrefer_model_info", name="first", revision="of first") is None

    play(SECOND_LOADS, act)


def test_nothing_of_the_old_model_stays() -> None:
    async def act(scene: Scene) -> None:
        ended = weakref.ref(scene.engine.serving.executor), weakref.ref(scene.engine.serving.predictor)
        threads = {each for each in threading.enumerate() if each.name in ("device", "watchdog")}
        await scene.switch()
        assert [each() for each in ended] == [None, None]
        assert not any(each.is_alive() for each in threads)

    play(SECOND_LOADS, act)
    gc.unfreeze()


def test_rolling_back_loads_the_model_before() -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(ConflictError, match="no previous model"):
            assert scene.reloading.previous
        await scene.switch()
        await scene.switch(scene.reloading.previous, pointer="/previous")
        assert await scene.answered_by() == "first"
        assert scene.reloading.previous == SECOND
        assert scene.metric("dynrefer_model_switches_total", outcome="rolled_back") == 1.0

    play(SECOND_LOADS, act)


def raising(error: Exception) -> Load:
    def load() -> FakePredictor:
        raise error

    return load


def failing_warm_up() -> FakePredictor:
    def fail(boxes: object) -> None:
        raise ValueError("of the settings")

    return predictor("second", run_hook=fail)


def losing_the_device() -> FakePredictor:
    def fail(boxes: object) -> None:
        raise DeviceLostError("it fell off the bus.")

    return predictor("second", run_hook=fail)


FAILURES: list[tuple[Load, str]] = [
    (raising(ModelNotFoundError("there is no model.")), "There is no model."),
    (raising(ModelNotFoundError("nothing is in '/models/second'.")), "Nothing is in 'second'."),
    (raising(MemoryError()), "The model cannot be loaded on this machine: there is not enough memory."),
    (failing_warm_up, "The model was loaded but cannot describe a region (ValueError): its settings do not fit."),
    (losing_the_device, "it fell off the bus."),
]


@pytest.mark.parametrize("unload_first", [False, True])
@pytest.mark.parametrize(("load", "sentence"), FAILURES)
def test_a_model_that_cannot_be_loaded_leaves_the_one_before(load: Load, sentence: str, unload_first: bool) -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(ModelNotLoadedError) as refused:
            await scene.switch(unload_first=unload_first)
        after = "that served before was loaded again" if unload_first else "that served goes on"
        assert refused.value.detail[0].isupper() and sentence[1:] in refused.value.detail
        assert refused.value.detail.endswith(f" The model {after}.")
        assert [each.pointer for each in refused.value.fields] == ["/model"]
        assert await scene.answered_by() == "first"
        state = scene.reloading.state
        assert state.last_failure is not None and state.last_failure.source == SECOND
        assert (state.serving, state.loading, state.previous) == (scene.engine.serving, None, None)
        assert scene.metric("dynrefer_model_switches_total", outcome="failed") == 1.0
        await asyncio.sleep(0.1)  # the grace time of the model that was given up
        assert not scene.lost.is_set() and scene.engine.failure is None

    play({"second": load}, act)


def test_one_switch_at_a_time() -> None:
    gate = threading.Event()

    def slow() -> FakePredictor:
        assert gate.wait(WAIT_S)
        return predictor("second")

    async def act(scene: Scene) -> None:
        switch = asyncio.ensure_future(scene.switch())
        await until(lambda: scene.reloading.state.loading == SECOND)
        with pytest.raises(ConflictError, match="loaded or ended already"):
            await scene.switch()
        assert await scene.answered_by() == "first"
        gate.set()
        await switch
        assert await scene.answered_by() == "second"

    play({"second": slow}, act)


def test_a_switch_goes_on_when_nobody_waits_for_it_any_more() -> None:
    gate = threading.Event()

    def slow() -> FakePredictor:
        assert gate.wait(WAIT_S)
        return predictor("second")

    async def act(scene: Scene) -> None:
        with pytest.raises(DeadlineExceeded, match="goes on"):
            await scene.switch(timeout_s=0.05)
        gate.set()
        await until(lambda: scene.engine.card.name == "second")

    play({"second": slow}, act)


@pytest.mark.parametrize("unload_first", [False, True])
def test_a_shutdown_in_the_middle_gives_up_the_switch(unload_first: bool) -> None:
    gate = threading.Event()

    def slow() -> FakePredictor:
        assert gate.wait(WAIT_S)
        return predictor("second")

    async def act(scene: Scene) -> None:
        switch = asyncio.ensure_future(scene.switch(unload_first=unload_first))
        await until(lambda: scene.reloading.state.loading == SECOND)
        scene.engine.begin_drain()
        with pytest.raises(UnavailableError, match="shutting down"):
            await switch
        await scene.stop()
        assert not scene.lost.is_set()
        gate.set()
        assert scene.metric("dynrefer_model_switches_total", outcome="given_up") == 1.0

    play({"second": slow}, act)


def test_a_shutdown_while_the_old_model_is_ended_answers_its_requests() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: object) -> None:
        began.set()
        assert gate.wait(WAIT_S)

    async def act(scene: Scene) -> None:
        first: Any = scene.engine.serving.predictor
        first.run_hook = hold
        early = asyncio.ensure_future(scene.answered_by())
        await until(began.is_set)
        switch = asyncio.ensure_future(scene.switch())
        await until(lambda: scene.reloading.state.ending)
        scene.engine.begin_drain()
        with pytest.raises(UnavailableError, match="shutting down"):
            await switch
        stop = asyncio.ensure_future(scene.stop())
        await asyncio.sleep(0.05)
        assert not stop.done()
        gate.set()
        assert await early == "first"
        await stop

    play(SECOND_LOADS, act)


def lose(boxes: object) -> None:
    raise DeviceLostError("it fell off the bus.")


async def asked(scene: Scene, model: Serving | None = None) -> None:
    with pytest.raises(UnavailableError):
        await describe(scene.engine, model)


def test_the_loss_of_the_serving_model_ends_the_service_during_a_switch_too() -> None:
    gate = threading.Event()

    def slow() -> FakePredictor:
        assert gate.wait(WAIT_S)
        return predictor("second")

    async def act(scene: Scene) -> None:
        switch = asyncio.ensure_future(scene.switch(timeout_s=0.5))
        await until(lambda: scene.reloading.state.loading == SECOND)
        first: Any = scene.engine.serving.predictor
        first.run_hook = lose
        await asked(scene)
        await until(scene.lost.is_set)
        gate.set()
        await asyncio.gather(switch, return_exceptions=True)

    play({"second": slow}, act)


def test_the_loss_of_the_model_that_is_ended_does_not_end_the_service() -> None:
    async def act(scene: Scene) -> None:
        with scene.engine.model() as model:
            switch = asyncio.ensure_future(scene.switch())
            await until(lambda: scene.reloading.state.ending)
            held: Any = model.predictor
            held.run_hook = lose
            await asked(scene, model)
        await switch
        await asyncio.sleep(0.1)
        assert not scene.lost.is_set() and not scene.engine.lost
        assert await scene.answered_by() == "second"

    play(SECOND_LOADS, act)


def test_the_loss_of_the_new_model_ends_the_service_once_it_serves() -> None:
    async def act(scene: Scene) -> None:
        await scene.switch()
        second: Any = scene.engine.serving.predictor
        second.run_hook = lose
        await asked(scene)
        await until(scene.lost.is_set)
        assert scene.engine.lost

    play(SECOND_LOADS, act)


def test_a_stuck_batch_of_the_old_model_delays_its_end_alone() -> None:
    """Its watchdog gives it up; until then and after it the new one serves."""
    gate, began = threading.Event(), threading.Event()

    def hang(boxes: object) -> None:
        began.set()
        gate.wait(WAIT_S)

    async def act(scene: Scene) -> None:
        first: Any = scene.engine.serving.predictor
        first.run_hook = hang
        early = asyncio.ensure_future(describe(scene.engine))
        await until(began.is_set)
        switch = asyncio.ensure_future(scene.switch())
        await until(lambda: scene.reloading.state.ending)
        assert await scene.answered_by() == "second"
        with pytest.raises(UnavailableError):
            await early
        await switch
        assert not scene.lost.is_set()
        gate.set()

    play(SECOND_LOADS, act, device_stall_s=0.2)


def test_unloading_first_tells_requests_to_come_again() -> None:
    gate = threading.Event()

    def slow() -> FakePredictor:
        assert gate.wait(WAIT_S)
        return predictor("second")

    async def act(scene: Scene) -> None:
        ended = weakref.ref(scene.engine.serving.predictor)
        switch = asyncio.ensure_future(scene.switch(unload_first=True))
        await until(lambda: ended() is None)  # before the other is loaded
        assert scene.engine.phase is Phase.LOADING and scene.reloading.state.loading == SECOND
        with pytest.raises(UnavailableError, match="loading its model"):
            await scene.answered_by()
        gate.set()
        await switch
        assert await scene.answered_by() == "second"
        assert scene.reloading.previous == FIRST

    play({"second": slow}, act)


def test_where_no_model_can_be_loaded_any_more_the_service_ends() -> None:
    async def act(scene: Scene) -> None:
        scene.loads["first"] = raising(ModelNotFoundError("it was deleted."))
        with pytest.raises(ModelNotLoadedError, match="There is none. The model that served before cannot be loaded"):
            await scene.switch(unload_first=True)
        await until(scene.lost.is_set)
        assert str(scene.engine.failure) == "it was deleted."

    play({"second": raising(ModelNotFoundError("there is none."))}, act)


def test_a_service_that_is_not_ready_switches_nothing() -> None:
    async def scene() -> None:
        gate = threading.Event()

        def slow() -> FakePredictor:
            assert gate.wait(WAIT_S)
            return predictor("first")

        there = Scene({"first": slow, **SECOND_LOADS})
        there.engine.start(there.lost.set)
        with pytest.raises(UnavailableError, match="loading its model"):
            await there.switch()
        gate.set()
        await until(lambda: there.engine.phase is Phase.READY)
        await there.stop()

    asyncio.run(scene())


async def _flood(scene: Scene, over: Callable[[], bool]) -> list[str]:
    """One request after another until then: who answered. Any that fails raises."""
    found = []
    while not over():
        found.append(await scene.answered_by())
    return found


def test_no_request_fails_while_models_take_turns() -> None:
    async def act(scene: Scene) -> None:
        done = False
        clients: list[Awaitable[list[str]]] = [asyncio.ensure_future(_flood(scene, lambda: done)) for _ in range(6)]
        await scene.switch()
        for _ in range(9):
            await scene.switch(scene.reloading.previous, pointer="/previous")
        done = True
        answered = [name for each in await asyncio.gather(*clients) for name in each]
        assert set(answered) == {"first", "second"}

    def slowly(boxes: list[Corners]) -> None:
        threading.Event().wait(0.001)

    loads: dict[str, Load] = {
        name: lambda name=name: predictor(name, run_hook=slowly)  # type: ignore[misc]
        for name in ("first", "second")
    }
    play(loads, act)
