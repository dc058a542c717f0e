"""One pass over an image: workers decode it and prepare what the device is to look at, and an executor runs that.

A request makes one pass or several, all within its place in the queue. The image is decoded for each: kept in between,
it would hold a process and its memory for as long as the queue lasts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from dynrefer.service.engine import pointed_regions
from dynrefer.service.engine.detecting import all_results
from dynrefer.service.engine.pointed_regions import FoundMasks, first_pass, ready_for_device, with_failures
from dynrefer.service.engine.reservations import WorkKind
from dynrefer.service.engine.results import DescribeResult, finish_request

if TYPE_CHECKING:
    from dynrefer.model import PointedRegion, Predictor, Preparation, WindowMask
    from dynrefer.service.context import RequestContext
    from dynrefer.service.engine.executor import Region
    from dynrefer.service.engine.reservations import Output, Reservation
    from dynrefer.service.workers.image_task import DescribeInput, PreparedImage


InCpuPool = Callable[[Callable[[], "DescribeResult"]], Awaitable["DescribeResult"]]


class ImageWorkers(Protocol):
    """Who decodes images and prepares their regions: `WorkerPool`, or `WorkerThreads`."""

    def start(self) -> None:
        """Called once, on the event loop."""

    async def stop(self) -> None:
        """Begin nothing more."""

    async def prepare(
        self, preparation: Preparation[Region], request: DescribeInput, context: RequestContext
    ) -> PreparedImage[Region]:
        """See `WorkerPool.prepare`."""


class Passes:
    """workers: prepare images. run_in_cpu_pool: runs CPU work that is not on an image."""

    def __init__(
        self,
        workers: ImageWorkers,
        run_in_cpu_pool: Callable[[Callable[[], DescribeResult]], Awaitable[DescribeResult]],
    ) -> None:
        self.workers = workers
        self._run_in_cpu_pool = run_in_cpu_pool

    async def describe(
        self,
        reservation: Reservation[Region, Output],
        predictor: Predictor[Region, Output],
        request: DescribeInput,
        context: RequestContext,
    ) -> Callable[[], DescribeResult]:
        """Run the regions of one image, those with points after their masks; what is left is CPU work."""
        found = FoundMasks(request, {})
        began = time.perf_counter()
        if request.pointed and predictor.segmentation is not None:
            found = await self.find_masks(reservation, predictor.segmentation, request, context)
        points_ms = (time.perf_counter() - began) * 1e3
        finish = await self.run_regions(reservation, predictor, found.request, context)
        return lambda: with_failures(finish(), found, points_ms) if request.pointed else finish()

    async def run_regions(
        self,
        reservation: Reservation[Region, Output],
        predictor: Predictor[Region, Output],
        request: DescribeInput,
        context: RequestContext,
    ) -> Callable[[], DescribeResult]:
        """Prepare the regions of one image and run them; what is left is CPU work, which needs no room in the queue."""
        image = await self.workers.prepare(predictor.preparation, request, context)
        submitted_ns = time.time_ns()
        results = await asyncio.wrap_future(reservation.submit(image.ready, WorkKind.DESCRIBE))
        return partial(finish_request, predictor, request, image, results, submitted_ns)

    async def find_masks(
        self,
        reservation: Reservation[Any, Any],
        segmentation: Preparation[PointedRegion],
        request: DescribeInput,
        context: RequestContext,
    ) -> FoundMasks:
        """The masks of what the points of a request lie on. Its room is there again afterwards."""
        image = await self.workers.prepare(segmentation, first_pass(request), context)
        regions = ready_for_device(request, image)
        results = await asyncio.wrap_future(reservation.submit(regions, WorkKind.SEGMENT))
        reservation.renew(len(regions))
        return pointed_regions.with_masks(request, image, results)

    async def masks_in_boxes(
        self,
        predictor: Predictor[Any, Any],
        reservation: Reservation[Any, Any],
        request: DescribeInput,
        context: RequestContext,
    ) -> list[WindowMask]:
        """The masks of what is in boxes, by the segmenter."""
        reservation.ensure(request.num_regions)
        preparation = cast("Preparation[PointedRegion]", predictor.segmentation)
        image = await self.workers.prepare(preparation, request, context)
        return all_results(await asyncio.wrap_future(reservation.submit(image.ready, WorkKind.SEGMENT)))

    async def describe_found(
        self,
        predictor: Predictor[Any, Any],
        reservation: Reservation[Any, Any],
        request: DescribeInput,
        context: RequestContext,
    ) -> DescribeResult | None:
        """Describe regions of an image that was looked at before; None without any, for which it need not be decoded
        again."""
        if not request.num_regions:
            return None
        reservation.ensure(request.num_regions)
        return await self._run_in_cpu_pool(await self.run_regions(reservation, predictor, request, context))
