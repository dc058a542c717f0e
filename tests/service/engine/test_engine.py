"""The engine's interfaces and its shutdown; what it does for requests is tested through the application."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import numpy as np
import pytest

from dynrefer.model import Corners, DecodedImage, ImageInfo, RegionQuery
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import ExecutorCounts, Phase
from dynrefer.service.engine.reservations import Kind, Reservation, WorkKind
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import DeadlineExceeded, UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.workers.image_task import DescribeInput
from dynrefer.service.workers.threads import WorkerThreads
from tests.fakes import FakePredictor, FakeRegion, context_of, local_engine

IMAGE = DecodedImage(np.zeros((48, 64, 3), dtype=np.uint8), ImageInfo(64, 48))


def decoded(data: memoryview, on_header: object) -> DecodedImage:
    return IMAGE


async def ready(engine: Engine) -> None:
    """Start it and wait for its warm-up."""
    engine.start()
    while engine.phase is not Phase.READY:
        await asyncio.sleep(0.002)


async def describe(engine: Engine, *sides: float) -> DescribeResult:
    """Describe one region per side."""
    queries = [RegionQuery(box=(0.0, 0.0, side, side)) for side in sides]
    request = DescribeInput(len(queries), b"", decoded, lambda info: queries)
    return await engine.describe(request, context_of())


def test_importing_the_engine_loads_neither_the_web_framework_nor_torch() -> None:
    code = "import sys, dynrefer.service.engine.engine, dynrefer.service.engine.device_thread; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "starlette", "torch", "transformers"} & set(done.stdout.split())


class ToyExecutor:
    """An executor without a device: its one batch runs in the thread that calls `serve`. phase: set by the test."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.failure = None
        self.lost = False
        self.predictor: FakePredictor | None = None
        self.callers: list[str | None] = []
        self.closed = False
        self.counts = ExecutorCounts()
        self._batcher: Batcher[FakeRegion, float] = Batcher(Limits(10, 4, 100, 0.0), lambda region: region.num_views)

    def start(self, on_loss: Callable[[], None]) -> None:
        self.predictor = FakePredictor()
        self.phase = Phase.READY
        threading.Thread(target=self._batcher.serve, args=(self._run,), daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self._batcher.close()

    def reserve(self, regions: int, context: RequestContext) -> Reservation[FakeRegion, float]:
        self.callers.append(context.caller)
        return self._batcher.reserve(regions, context.caller, context.deadline)

    def wait_for_idle_cores(self) -> None:
        pass

    def _run(self, kind: Kind, regions: Sequence[FakeRegion], should_stop: Callable[[], bool]) -> list[float]:
        assert kind is WorkKind.DESCRIBE and self.predictor is not None
        return self.predictor.run(regions, should_stop)


def test_any_executor_will_do() -> None:
    async def scene() -> None:
        executor = ToyExecutor()
        engine = Engine(executor, WorkerThreads(1, lambda: None, Metrics()), Metrics())
        with pytest.raises(UnavailableError, match="loading its model"):
            await describe(engine, 5)
        await ready(engine)
        assert engine.card.name == "fake"
        engine.check_room(context_of("somebody"))
        assert [
            region.box[2] for region in (await describe(engine, 5, 6)).regions if not isinstance(region, Exception)
        ] == [5, 6]
        assert executor.callers == ["somebody", None]
        executor.phase = Phase.STUCK
        with pytest.raises(UnavailableError, match="to answer again"):
            engine.check_room(context_of())
        await engine.stop(grace_s=10)
        assert executor.closed and engine.phase is Phase.DRAINING

    asyncio.run(scene())


def test_a_deadline_that_passes_in_the_queue_is_the_services_error() -> None:
    async def scene() -> None:
        engine = local_engine(FakePredictor)
        await ready(engine)
        request = DescribeInput(1, b"", decoded, lambda info: [RegionQuery(box=(0.0, 0.0, 5.0, 5.0))])
        with pytest.raises(DeadlineExceeded, match="while the request was queued"):
            await engine.describe(request, context_of(timeout_s=-1.0))
        await engine.stop(grace_s=10)

    asyncio.run(scene())


def test_stopping_waits_for_responses_that_are_being_written() -> None:
    gate, began = threading.Event(), threading.Event()

    def write() -> str:
        began.set()
        gate.wait(10)
        return "written"

    async def scene() -> None:
        engine = local_engine(FakePredictor)
        await ready(engine)
        writing = [asyncio.create_task(engine.run_in_cpu_pool(write)) for _ in range(2)]
        await asyncio.to_thread(began.wait, 10)
        stopping = asyncio.create_task(engine.stop(grace_s=10))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        gate.set()
        assert await asyncio.gather(*writing) == ["written", "written"]
        await stopping

    asyncio.run(scene())


def test_threads_know_the_context_of_the_request_they_work_for() -> None:
    request: ContextVar[str] = ContextVar("request")
    seen: list[str] = []

    async def describe_one(engine: Engine, name: str) -> None:
        request.set(name)
        await describe(engine, 5)
        assert await engine.run_in_cpu_pool(request.get) == name

    async def scene() -> None:
        predictor = FakePredictor()
        engine = local_engine(lambda: predictor, threads=1)
        await ready(engine)
        predictor.prepare_hook = lambda query: seen.append(request.get())
        await asyncio.gather(describe_one(engine, "one"), describe_one(engine, "two"))
        assert sorted(seen) == ["one", "two"]
        await engine.stop(grace_s=10)

    asyncio.run(scene())


def test_stopping_finishes_what_was_admitted_and_takes_nothing_new() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: Sequence[Corners]) -> None:
        began.set()
        gate.wait(10)

    async def scene() -> None:
        predictor = FakePredictor()
        engine = local_engine(lambda: predictor, max_batch_regions=1)
        await ready(engine)
        predictor.run_hook = hold
        admitted = asyncio.create_task(describe(engine, 5, 6, 7))
        await asyncio.to_thread(began.wait, 10)
        stopping = asyncio.create_task(engine.stop(grace_s=10))
        await asyncio.sleep(0)
        assert engine.phase is Phase.DRAINING
        with pytest.raises(UnavailableError):
            await describe(engine, 8)
        gate.set()
        assert [region.box[2] for region in (await admitted).regions] == [5, 6, 7]
        await stopping
        assert not engine.lost

    asyncio.run(scene())


def test_cancelling_frees_the_queue() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: Sequence[Corners]) -> None:
        began.set()
        gate.wait(10)

    async def scene() -> None:
        predictor = FakePredictor()
        engine = local_engine(lambda: predictor, max_batch_regions=1)
        await ready(engine)
        predictor.run_hook = hold
        admitted = asyncio.create_task(describe(engine, 5, 6, 7))
        await asyncio.to_thread(began.wait, 10)
        admitted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await admitted
        assert engine.serving.executor._batcher.waiting == 0
        gate.set()
        assert len((await describe(engine, 8)).regions) == 1
        await engine.stop(grace_s=10)

    asyncio.run(scene())
