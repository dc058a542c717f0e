"""The engine's arithmetic and its end; what it does for requests is tested through the application."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dynrefer.model import Corners, RegionQuery
from dynrefer.service.engine.engine import Caller, Engine, Phase
from dynrefer.service.engine.fair_queue import RegionResult
from dynrefer.service.engine.results import DescribeResult, total_stages
from dynrefer.service.errors import UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor

IMAGE = np.zeros((48, 64, 3), dtype=np.uint8)


async def ready(engine: Engine) -> None:
    """Start it and wait for its warm-up."""
    engine.start()
    while engine.phase is not Phase.READY:
        await asyncio.sleep(0.002)


async def describe(engine: Engine, *sides: float) -> DescribeResult:
    """Ask for one region per side."""
    queries = [RegionQuery(box=(0.0, 0.0, side, side)) for side in sides]
    caller = Caller(None, time.monotonic() + 60)
    return await engine.describe(
        len(queries), lambda: IMAGE, lambda width, height: queries, lambda described: described, caller
    )


def test_stages_of_a_request() -> None:
    predictor = FakePredictor()
    prepared = list(predictor.prepare_each(IMAGE, [RegionQuery(box=(0, 0, 8, 8))] * 3))
    region = predictor.finish(prepared[0], 0.0)
    slow = replace(region, timings_ms={"views": 1.0, "vision": 5.0})
    outcomes = [RegionResult(0.0, None, queue_ms, batch) for queue_ms, batch in ((1.0, 7), (2.0, 7), (9.0, 8))]
    # The first two shared a batch, so they went through it at the same time; the third came after them.
    assert total_stages([region, slow, slow], outcomes) == {
        "views": 2.5, "queue": 9.0, "vision": 10.0, "heads": 1.0, "caption": 3.0,
    }  # fmt: skip


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
        engine = Engine(Settings(), load, Metrics())
        engine.start(lost.set)
        assert await asyncio.to_thread(lost.wait, 10)
        assert str(engine.failure) == f"the model cannot be loaded on this machine: {sentence}."

    asyncio.run(scene())


def test_stopping_finishes_what_was_admitted_and_takes_nothing_new() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: Sequence[Corners]) -> None:
        began.set()
        gate.wait(10)

    async def scene() -> None:
        predictor = FakePredictor()
        engine = Engine(Settings(max_batch_regions=1), lambda: predictor, Metrics())
        await ready(engine)
        predictor.run_hook = hold
        asked = asyncio.create_task(describe(engine, 5, 6, 7))
        await asyncio.to_thread(began.wait, 10)
        stopping = asyncio.create_task(engine.stop(grace_s=10))
        await asyncio.sleep(0)
        assert engine.phase is Phase.DRAINING
        with pytest.raises(UnavailableError):
            await describe(engine, 8)
        gate.set()
        assert [region.box[2] for region in (await asked).regions] == [5, 6, 7]
        await stopping
        assert not engine.lost

    asyncio.run(scene())


def test_cancelling_gives_the_room_back() -> None:
    gate, began = threading.Event(), threading.Event()

    def hold(boxes: Sequence[Corners]) -> None:
        began.set()
        gate.wait(10)

    async def scene() -> None:
        predictor = FakePredictor()
        engine = Engine(Settings(max_batch_regions=1), lambda: predictor, Metrics())
        await ready(engine)
        predictor.run_hook = hold
        asked = asyncio.create_task(describe(engine, 5, 6, 7))
        await asyncio.to_thread(began.wait, 10)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert engine._batcher.waiting == 0
        gate.set()
        assert len((await describe(engine, 8)).regions) == 1
        await engine.stop(grace_s=10)

    asyncio.run(scene())
