"""The device thread: its start, its behaviour without memory, and its end."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dynrefer.model import BatchLimits, Corners, RegionQuery
from dynrefer.model.errors import DeviceLostError, DeviceMemoryError
from dynrefer.service.engine import device_thread
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.executor import Phase, watch_executor
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings
from tests.fake_batch import FakeBatch
from tests.fakes import FakePredictor, answer, context_of, local_engine
from tests.service.engine.conftest import WAIT_S


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "there is not enough memory"),
        (ImportError("libtorch.so: failed to map segment\nand more"), "libtorch.so: failed to map segment"),
    ],
)
def test_a_machine_that_cannot_load_the_model_is_one_sentence(error: Exception, sentence: str) -> None:
    def load() -> FakePredictor:
        raise error

    async def scene() -> None:
        lost = threading.Event()
        engine = local_engine(load)
        engine.start(lost.set)
        assert await asyncio.to_thread(lost.wait, 10)
        assert str(engine.failure) == f"the model cannot be loaded on this machine: {sentence}."

    asyncio.run(scene())


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free memory is looked for without pause."""
    monkeypatch.setattr(device_thread, "WATCH_EVERY_S", 0.01)


def started(
    predictor: FakePredictor,
    on_loss: Callable[[], None] = lambda: None,
    grace_s: float = 0.2,
    metrics: Metrics | None = None,
    **settings: Any,
) -> DeviceThread[object, float]:
    """A device thread that is ready."""
    metrics = metrics or Metrics()
    device = DeviceThread(Settings(device_grace_s=grace_s, **settings), lambda: predictor, metrics)
    watch_executor(metrics, lambda: device.counts)
    device.start(on_loss)
    await_phase(device, Phase.READY)
    return device


def await_phase(device: DeviceThread[object, float], phase: Phase) -> None:
    until = time.monotonic() + WAIT_S
    while device.phase is not phase:
        assert time.monotonic() < until, device.phase
        time.sleep(0.002)


def run_one(device: DeviceThread[object, float]) -> Exception | None:
    """The error of one region that is run alone, if any."""
    with device.reserve(1, context_of()) as reservation:
        (result,) = reservation.submit(device._sample).result(WAIT_S)
        return result.error


def test_no_garbage_collection_while_loading_and_loaded_objects_are_frozen() -> None:
    collecting: list[bool] = []

    def note(query: RegionQuery) -> None:
        collecting.append(gc.isenabled())

    gc.unfreeze()
    device = started(FakePredictor(prepare_hook=note))
    assert collecting == [False] and gc.isenabled() and gc.get_freeze_count() > 0
    gc.unfreeze()
    device.close()


def test_a_device_without_memory_takes_no_batch_until_memory_is_free() -> None:
    predictor, full = FakePredictor(), threading.Event()
    device = started(predictor, grace_s=WAIT_S)

    def refuse(boxes: Sequence[Corners]) -> None:
        if full.is_set():
            raise DeviceMemoryError

    predictor.run_hook = refuse
    full.set()
    with pytest.raises(ExecutorClosed):
        run_one(device)
    assert device.phase is Phase.STARVED
    with pytest.raises(ExecutorClosed):
        device.reserve(1, context_of())
    full.clear()
    await_phase(device, Phase.READY)
    assert run_one(device) is None
    device.close()


@pytest.mark.parametrize("error", [DeviceMemoryError, DeviceLostError])
def test_a_device_that_gets_no_memory_back_is_lost(error: type[Exception]) -> None:
    """Whether the smallest region does not fit until the grace time is over, or shows that the device is gone."""
    predictor, lost = FakePredictor(), threading.Event()
    device = started(predictor, lost.set)
    runs = 0

    def refuse(boxes: Sequence[Corners]) -> None:
        nonlocal runs
        runs += 1
        raise DeviceMemoryError if runs == 1 else error

    predictor.run_hook = refuse
    with pytest.raises(ExecutorClosed):
        run_one(device)
    assert lost.wait(WAIT_S)
    assert device.lost and device.phase is Phase.LOST and device.failure is None


def test_closing_ends_it_without_loss() -> None:
    lost = threading.Event()
    device = started(FakePredictor(), lost.set)
    device.close()
    device._watcher.join(WAIT_S)
    assert not device._watcher.is_alive() and not device.lost and not lost.is_set()
    assert device.phase is Phase.LOST  # it runs nothing any more


@pytest.mark.parametrize(
    ("measured", "settings", "expected"),
    [
        (None, {}, (16, 48)),
        (BatchLimits(64, 192), {}, (64, 192)),
        (BatchLimits(64, 192), {"max_batch_regions": 4}, (4, 192)),
        (None, {"max_batch_regions": 4, "max_batch_views": 5}, (4, 5)),
    ],
)
def test_limits_are_those_of_the_settings_else_measured_else_usual(
    measured: BatchLimits | None, settings: dict[str, int], expected: tuple[int, int]
) -> None:
    metrics = Metrics()
    device = started(FakePredictor(limits=measured), metrics=metrics, **settings)
    limits = device._batcher.limits
    assert (limits.batch_regions, limits.batch_views) == expected
    assert f"dynrefer_batch_cap_regions {expected[0]}.0" in metrics.render().decode()
    device.close()


def batch(**options: Any) -> FakeBatch[Any, float]:
    """One that gives other outputs than whole batches do."""
    return FakeBatch(lambda region: answer(region) + 1000, cost=lambda region: region.num_views, **options)


def test_regions_go_through_the_continuous_batch_where_there_is_one() -> None:
    metrics = Metrics()
    predictor = FakePredictor(batch=batch(), cuda_graphs={"captured": 5, "fallen back": 1})
    device = started(predictor, metrics=metrics)
    assert len(predictor.batches) == 1 and len(predictor.batch.admissions) == 1  # the warm-up goes both ways
    with device.reserve(3, context_of()) as reservation:
        results = reservation.submit([*device._sample] * 3).result(WAIT_S)
    assert [result.output for result in results] == [answer(device._sample[0]) + 1000] * 3
    assert len(predictor.batches) == 1
    lines = metrics.render().decode().splitlines()
    for line in (
        "dynrefer_batch_regions_count 1.0",
        "dynrefer_batch_regions_sum 3.0",
        "dynrefer_batch_views_sum 9.0",
        "dynrefer_device_regions 0.0",
        'dynrefer_cuda_graphs{state="captured"} 5.0',
        'dynrefer_cuda_graphs{state="fallen_back"} 1.0',
    ):
        assert line in lines, line
    device.close()
    device._watcher.join(WAIT_S)
    assert not device.lost


def refuse_all(items: Sequence[object]) -> None:
    raise RuntimeError("no kernel image")


@pytest.mark.parametrize("options", [{"admit_hook": refuse_all}, {"step_hook": refuse_all}, {"steps": 10**9}])
def test_whole_batches_serve_where_the_continuous_one_fails_at_the_start(options: dict[str, Any]) -> None:
    predictor = FakePredictor(batch=batch(**options))
    device = started(predictor, device_stall_s=0.05)
    assert run_one(device) is None and len(predictor.batches) == 2
    assert predictor.batch is not None and predictor.batch.items == []
    device.close()


def test_continuous_batching_that_is_demanded_and_fails_ends_the_start() -> None:
    lost = threading.Event()
    predictor = FakePredictor(batch=batch(step_hook=refuse_all))
    device = DeviceThread(Settings(batching="continuous"), lambda: predictor, Metrics())
    device.start(lost.set)
    assert lost.wait(WAIT_S)
    assert str(device.failure) == "continuous batching does not work on this device (RuntimeError)."


def test_want_of_memory_in_the_continuous_batch_is_counted() -> None:
    running, metrics = batch(), Metrics()
    device = started(FakePredictor(batch=running), metrics=metrics)

    def refuse(items: Sequence[object]) -> None:
        raise DeviceMemoryError

    running.admit_hook = refuse
    assert run_one(device) is None  # by itself, as in a step that fails
    running.admit_hook, running.step_hook = lambda items: None, refuse
    assert run_one(device) is None
    assert "dynrefer_device_oom_total 2.0" in metrics.render().decode()
    device.close()
