"""Image work takes turns. Nothing here waits for a clock: preparation is held up by events."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dynrefer.model import DecodedImage, ImageInfo, RegionQuery
from dynrefer.model.errors import BoxError
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.workers import threads
from dynrefer.service.workers.image_task import DescribeInput
from dynrefer.service.workers.threads import WHOLE_REGIONS, WorkerThreads
from tests.fakes import FakePredictor, FakeRegion, context_of, local_engine
from tests.service.engine.test_engine import ready

WAIT_S = 10
IMAGE = DecodedImage(np.zeros((512, 512, 3), dtype=np.uint8), ImageInfo(512, 512))
LARGE, SMALL = 200, 1


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of a large request is a slice."""
    monkeypatch.setattr(threads, "SLICE_S", 0.0)


def queries(count: int) -> list[RegionQuery]:
    """Boxes whose width says which request they are of, and whose height says which region."""
    return [RegionQuery(box=(0.0, 0.0, float(count), index + 1.0)) for index in range(count)]


def which(query: RegionQuery) -> tuple[int, int]:
    """(how many regions its request has, its place)."""
    return int(query.box[2]), int(query.box[3]) - 1


class GatedPrepare:
    """A prepare_hook that notes every region and holds up those that it has an event for."""

    def __init__(self, *regions: tuple[int, int]) -> None:
        self.gates = {region: threading.Event() for region in regions}
        self.reached = {region: threading.Event() for region in regions}
        self.seen: list[tuple[int, int]] = []

    def __call__(self, query: RegionQuery) -> None:
        region = which(query)
        self.seen.append(region)
        if region in self.gates:
            self.reached[region].set()
            assert self.gates[region].wait(WAIT_S), "it was held up until the end"

    async def reach(self, region: tuple[int, int]) -> None:
        assert await asyncio.to_thread(self.reached[region].wait, WAIT_S)


async def started(count: int, **settings: Any) -> tuple[Engine, FakePredictor]:
    predictor = FakePredictor()
    engine = local_engine(lambda: predictor, count, **settings)
    await ready(engine)
    return engine, predictor


def decoded(data: memoryview, on_header: object) -> DecodedImage:
    return IMAGE


def input_of(count: int, decode: Callable[..., DecodedImage] = decoded) -> DescribeInput:
    """The input of a request about so many regions."""
    return DescribeInput(count, b"", decode, lambda info: queries(count))


async def describe(engine: Engine, count: int) -> int:
    """Describe so many regions; returns how many were described."""
    return len((await engine.describe(input_of(count), context_of())).regions)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_region_is_answered_while_200_are_being_prepared(threads: int) -> None:
    first, last = (LARGE, 0), (LARGE, LARGE - 1)

    async def scene() -> None:
        engine, predictor = await started(threads, max_queue_regions=1_000)
        predictor.prepare_hook = gated = GatedPrepare(first, last)
        large = [asyncio.create_task(describe(engine, LARGE)) for _ in range(threads)]
        await gated.reach(first)
        small = asyncio.create_task(describe(engine, SMALL))
        await asyncio.sleep(0)  # it queues behind the slice that is being worked on
        gated.gates[first].set()
        assert await asyncio.wait_for(small, WAIT_S) == SMALL
        assert not any(each.done() for each in large)  # the last region of each waits for this
        gated.gates[last].set()
        assert await asyncio.gather(*large) == [LARGE] * threads
        await engine.stop(WAIT_S)

    asyncio.run(scene())


def test_no_more_regions_are_prepared_for_a_cancelled_request() -> None:
    async def scene() -> list[tuple[int, int]]:
        engine, predictor = await started(1)
        predictor.prepare_hook = gated = GatedPrepare((LARGE, 2))
        large = asyncio.create_task(describe(engine, LARGE))
        await gated.reach((LARGE, 2))
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        gated.gates[LARGE, 2].set()
        assert await describe(engine, SMALL) == SMALL
        await engine.stop(WAIT_S)
        return gated.seen

    assert asyncio.run(scene()) == [(LARGE, 0), (LARGE, 1), (LARGE, 2), (SMALL, 0)]


def test_a_stop_between_slices_closes_the_request() -> None:
    async def scene() -> None:
        pool = made(1)
        predictor = FakePredictor(prepare_hook=(gated := GatedPrepare((LARGE, 2))))
        preparing = asyncio.create_task(pool.prepare(predictor, input_of(LARGE), context_of()))
        await gated.reach((LARGE, 2))
        await pool.stop()
        gated.gates[LARGE, 2].set()
        with pytest.raises(ExecutorClosed):
            await asyncio.wait_for(preparing, WAIT_S)

    asyncio.run(scene())


class Decodes:
    """Counts the images decoded."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, data: memoryview, on_header: object) -> DecodedImage:
        self.count += 1
        return IMAGE


def made(count: int, wait_for_idle_cores: Callable[[], None] = lambda: None) -> WorkerThreads:
    return WorkerThreads(count, wait_for_idle_cores, Metrics())


def test_no_more_images_are_held_between_slices_than_there_are_threads() -> None:
    async def scene() -> None:
        pool = made(2)
        decode, predictor = Decodes(), FakePredictor(prepare_hook=(gated := GatedPrepare((LARGE, 1))))
        preparing = [
            asyncio.create_task(pool.prepare(predictor, input_of(LARGE, decode), context_of())) for _ in range(5)
        ]
        await gated.reach((LARGE, 1))
        async with asyncio.timeout(60):
            while gated.seen.count((LARGE, 1)) < 2:
                await asyncio.sleep(0.002)
        assert decode.count == 2
        gated.gates[LARGE, 1].set()
        images = await asyncio.gather(*preparing)
        assert decode.count == 5 and all(len(each.regions) == LARGE for each in images)
        await pool.stop()

    asyncio.run(scene())


@pytest.mark.parametrize(("regions", "gaps"), [(1, 1), (WHOLE_REGIONS, 1), (WHOLE_REGIONS + 1, WHOLE_REGIONS + 2)])
def test_every_slice_waits_for_idle_cores(regions: int, gaps: int) -> None:
    """Few regions are one slice, decoding included; more are, here, one of decoding and one per region."""
    waited: list[str] = []

    async def scene() -> None:
        pool = made(1, lambda: waited.append(threading.current_thread().name))
        image = await pool.prepare(FakePredictor(), input_of(regions), context_of())
        found = [region.query for region in image.ready if isinstance(region, FakeRegion)]
        assert found == queries(regions)
        assert image.info == ImageInfo(512, 512)
        await pool.stop()

    asyncio.run(scene())
    assert len(waited) == gaps and all(name.startswith("worker") for name in waited)


def fails(at: int) -> Callable[[RegionQuery], None]:
    """A prepare_hook that refuses one region."""

    def hook(query: RegionQuery) -> None:
        if which(query)[1] == at:
            raise BoxError("The box is empty or inverted.")

    return hook


@pytest.mark.parametrize(("regions", "at"), [(3, 2), (LARGE, 0), (LARGE, 137)])
def test_a_failing_query_keeps_its_index_whatever_slice_it_was_in(regions: int, at: int) -> None:
    async def scene() -> None:
        pool = made(1)
        predictor = FakePredictor(prepare_hook=fails(at))
        with pytest.raises(BoxError) as caught:
            await pool.prepare(predictor, input_of(regions), context_of())
        assert caught.value.index == at
        await pool.stop()

    asyncio.run(scene())
