"""Requests with points: masks first, then descriptions, in one place of the queue."""

import asyncio
import functools
import threading
import time

import numpy as np
import pytest

from dynrefer.model import DecodedImage, ImageInfo, PointPrompt, PointsError, QueryError, RegionDescription, RegionQuery
from dynrefer.model.errors import DeviceMemoryError, InvalidQueriesError
from dynrefer.model.segmentation import SegmentationSpec
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import DeadlineExceeded, RegionFailedError, UnavailableError
from dynrefer.service.workers.image_task import DescribeInput
from tests.fake_batch import FakeBatch
from tests.fake_preparation import FakeRegion
from tests.fakes import FakePredictor, answer, context_of, local_engine
from tests.service.engine.test_engine import ready

IMAGE = DecodedImage(np.zeros((48, 64, 3), dtype=np.uint8), ImageInfo(64, 48))
SPEC = SegmentationSpec(side=16, windows=1)
WARM_UP = 1  # a region, before the first request
BOX = RegionQuery(box=(1.0, 2.0, 30.0, 40.0))


def decoded(data: memoryview, on_header: object) -> DecodedImage:
    return IMAGE


def at(x: float, y: float) -> RegionQuery:
    return RegionQuery(box=(0.0, 0.0, 0.0, 0.0), points=(PointPrompt(x, y),))


def given(queries: list[RegionQuery], info: ImageInfo) -> list[RegionQuery]:
    return queries


def described(predictor: FakePredictor, *queries: RegionQuery, report: bool = False) -> DescribeResult:
    """One request through an engine."""

    async def scene() -> DescribeResult:
        engine = local_engine(lambda: predictor, max_queue_regions=len(queries), max_regions=len(queries))
        await ready(engine)
        pointed = tuple(place for place, query in enumerate(queries) if query.points)
        request = DescribeInput(
            len(queries), b"", decoded, functools.partial(given, list(queries)), report_errors=report, pointed=pointed
        )
        try:
            return await engine.describe(request, context_of())
        finally:
            await engine.stop(grace_s=10)

    return asyncio.run(scene())


def only(result: DescribeResult, place: int = 0) -> RegionDescription:
    found = result.regions[place]
    assert isinstance(found, RegionDescription)
    return found


def test_the_box_of_a_pointed_region_is_that_of_its_mask() -> None:
    predictor = FakePredictor(segmentation=SPEC)
    result = described(predictor, BOX, at(20, 30))
    assert only(result).box == BOX.box and only(result).mask is None
    found = only(result, 1)
    assert found.box == (16, 26, 23, 33)  # first and last pixel, as the official rule has it
    assert found.mask is not None and found.mask.size == (48, 64)
    assert result.timings_ms["points"] > 0
    assert predictor.segmented == [WARM_UP, 1]


def test_a_request_keeps_its_room_while_its_masks_are_found() -> None:
    """The queue has room for this request alone, and it is admitted once."""
    predictor = FakePredictor(segmentation=SPEC)
    result = described(predictor, at(20, 30), at(30, 20), at(40, 20))
    assert len(result.regions) == 3 and predictor.segmented == [WARM_UP, 3]


def test_points_share_batches_with_those_of_other_requests() -> None:
    predictor = FakePredictor(segmentation=SPEC)

    async def scene() -> None:
        engine = local_engine(lambda: predictor)
        await ready(engine)
        request = DescribeInput(1, b"", decoded, functools.partial(given, [at(20, 30)]), pointed=(0,))
        boxes = DescribeInput(1, b"", decoded, functools.partial(given, [BOX]))
        everything = [engine.describe(each, context_of()) for each in [request, boxes] * 10]
        results = await asyncio.gather(*everything)
        assert [only(result).box for result in results] == [(16, 26, 23, 33), BOX.box] * 10
        await engine.stop(grace_s=10)

    asyncio.run(scene())
    assert sum(predictor.segmented) == WARM_UP + 10


def test_without_a_segmenter_points_are_refused_with_what_to_do() -> None:
    with pytest.raises(PointsError, match="--segmenter DIR"):
        described(FakePredictor(), at(20, 30))
    result = described(FakePredictor(), BOX, at(20, 30), report=True)
    assert only(result).box == BOX.box and isinstance(result.regions[1], PointsError)


def test_all_bad_regions_of_a_request_are_named_and_no_mask_is_sought() -> None:
    predictor = FakePredictor(segmentation=SPEC)
    bad = RegionQuery(box=(5.0, 5.0, 5.0, 5.0))
    with pytest.raises(InvalidQueriesError) as raised:
        described(predictor, at(20, 30), bad, at(200, 30))
    assert [(error.index, error.field) for error in raised.value.errors] == [(1, "box"), (2, "points")]
    assert "outside the image of 64 x 48 pixels" in str(raised.value.errors[1])
    assert predictor.segmented == [WARM_UP]


def test_bad_points_are_reported_in_their_place() -> None:
    result = described(FakePredictor(segmentation=SPEC), at(200, 30), at(20, 30), report=True)
    assert isinstance(result.regions[0], QueryError)
    assert only(result, 1).box == (16, 26, 23, 33)


def fail_at_20(points: tuple[PointPrompt, ...]) -> None:
    if points[0].x == 20:
        raise RuntimeError("the segmenter broke")


def test_a_region_that_the_segmenter_fails_on_fails_alone() -> None:
    predictor = FakePredictor(segmentation=SPEC, segment_hook=fail_at_20)
    result = described(predictor, at(20, 30), at(30, 20), report=True)
    assert isinstance(result.regions[0], RegionFailedError)
    assert only(result, 1).box == (26, 16, 33, 23)
    with pytest.raises(RegionFailedError):
        described(FakePredictor(segmentation=SPEC, segment_hook=fail_at_20), at(20, 30), at(30, 20))


def test_without_memory_for_one_region_the_answer_says_so() -> None:
    def no_memory(points: tuple[PointPrompt, ...]) -> None:
        if points[0].x == 20:
            raise DeviceMemoryError("none left")

    with pytest.raises(UnavailableError):
        described(FakePredictor(segmentation=SPEC, segment_hook=no_memory), at(20, 30))


def test_a_continuous_batch_goes_on_beside_the_masks() -> None:
    batch: FakeBatch[FakeRegion, float] = FakeBatch(answer)
    predictor = FakePredictor(segmentation=SPEC, batch=batch)
    result = described(predictor, at(20, 30), BOX)
    assert only(result).box == (16, 26, 23, 33) and only(result, 1).box == BOX.box


@pytest.mark.parametrize("report", [False, True])
def test_a_deadline_that_passes_meanwhile_is_the_answer(report: bool) -> None:
    """Masks are found one after another, and the device is asked to stop in between."""
    predictor = FakePredictor(segmentation=SPEC, segment_hook=lambda points: time.sleep(0.05 * (points[0].x == 20)))

    async def scene() -> None:
        engine = local_engine(lambda: predictor)
        await ready(engine)
        request = DescribeInput(
            40, b"", decoded, functools.partial(given, [at(20, 30)] * 40), report_errors=report, pointed=(*range(40),)
        )
        with pytest.raises(DeadlineExceeded):
            await engine.describe(request, context_of(timeout_s=0.5))
        await engine.stop(grace_s=10)

    asyncio.run(scene())


def test_a_client_that_leaves_takes_its_masks_out_of_the_queue() -> None:
    began, released = threading.Event(), threading.Event()

    def hold(points: tuple[PointPrompt, ...]) -> None:
        if points[0].x == 20:
            began.set()
            released.wait(10)

    predictor = FakePredictor(segmentation=SPEC, segment_hook=hold)

    async def scene() -> None:
        engine = local_engine(lambda: predictor, max_batch_regions=1)
        await ready(engine)
        request = DescribeInput(2, b"", decoded, functools.partial(given, [at(20, 30)] * 2), pointed=(0, 1))
        leaving = asyncio.ensure_future(engine.describe(request, context_of()))
        await asyncio.to_thread(began.wait, 10)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        released.set()
        other = DescribeInput(1, b"", decoded, functools.partial(given, [at(30, 20)]), pointed=(0,))
        assert only(await engine.describe(other, context_of())).box == (26, 16, 33, 23)
        await engine.stop(grace_s=10)

    asyncio.run(scene())
    assert predictor.segmented == [WARM_UP, 1, 1]
