"""Image work in a few threads of the serving process, for debugging: nothing can stop a decoder here.

A request of few regions is one task. A larger one is cut into slices, each a task of its own that queues behind the
other requests, so that no small request waits for the whole of one of 200 regions.
"""

import asyncio
import contextvars
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from dynrefer.model import Preparation
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.workers.image_task import DescribeInput, PreparedImage, Region, image_steps, take

WHOLE_REGIONS = 8  # a request of so few is prepared without interruption
SLICE_S = 0.05  # of a larger one, before the other requests have their turn


class WorkerThreads:
    """threads: how many work. wait_for_idle_cores: called in such a thread before each task."""

    def __init__(self, threads: int, wait_for_idle_cores: Callable[[], None], metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._wait_for_idle_cores = wait_for_idle_cores
        self._metrics = metrics
        # Between two slices a request holds its decoded image: no more of those than there are threads.
        self._sliced = asyncio.Semaphore(threads)
        self._stopped = False

    def start(self) -> None:
        """Threads start with their first task."""

    async def stop(self) -> None:
        """Begin nothing more; what runs may end."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def prepare(
        self, preparation: "Preparation[Region]", request: DescribeInput, context: RequestContext
    ) -> PreparedImage[Region]:
        """Decode an image and prepare its regions; cancelling it stops the work at the end of a slice.

        Raises as `WorkerPool.prepare` does.
        """
        image: PreparedImage[Region] = PreparedImage(request.num_regions)
        steps = image_steps(request, preparation, 0, lambda width, height: None)
        if request.num_regions <= WHOLE_REGIONS:
            await self._run(image, steps, math.inf)
        else:
            async with self._sliced:
                while not await self._run(image, steps, SLICE_S):
                    pass
        if image.info is not None:
            self._metrics.image_pixels.observe(image.info.width * image.info.height)
        return image

    async def _run(self, image: PreparedImage[Any], steps: Iterator[Any], seconds: float) -> bool:
        """`_work` in the pool. Raises ExecutorClosed once that is stopped."""
        if self._stopped:
            raise ExecutorClosed
        work = partial(contextvars.copy_context().run, self._work, image, steps, seconds)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _work(self, image: PreparedImage[Any], steps: Iterator[Any], seconds: float) -> bool:
        """Take steps for so long, at least one. Whether that was all."""
        self._wait_for_idle_cores()
        until = time.monotonic() + seconds
        for step in steps:
            take(image, step)
            if time.monotonic() >= until:
                return not image.left
        return True
