"""Image work: images are decoded and their regions prepared in a few threads that all requests share.

A request of few regions is one task of the pool. A larger one is cut into slices, each a task of its own that queues
behind the other requests, so that no small request waits for the whole of one of 200 regions.
"""

import asyncio
import contextvars
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from dynrefer.model import Pixels, Predictor, RegionQuery
from dynrefer.service.engine.executor import Region
from dynrefer.service.engine.reservations import ExecutorClosed, Output
from dynrefer.service.observability.metrics import Metrics

WHOLE_REGIONS = 8  # a request of so few is prepared without interruption
SLICE_S = 0.05  # of a larger one, before the other requests have their turn


@dataclass(frozen=True, slots=True)
class DescribeInput:
    """An encoded image and the regions to describe on it, before any work is spent on them.

    decode: () -> (H, W, 3) uint8 RGB, upright. queries: (width, height) of that image, in pixels -> `num_regions`
    queries. Both are CPU work and may raise whatever is to be answered. Give functions of a module, or partials of
    them, so that the whole can be pickled and the work be done in another process.
    """

    num_regions: int
    decode: Callable[[], Pixels]
    queries: Callable[[int, int], Sequence[RegionQuery]]


@dataclass(slots=True)
class PreparedImage(Generic[Region]):
    """A decoded image's size in pixels and its regions, ready for the device.

    began_ns: when its decoding began, in nanoseconds since 1970.
    """

    width: int = 0
    height: int = 0
    began_ns: int = 0
    decode_ms: float = 0.0
    regions: list[Region] = field(default_factory=list)


class ImageWorkers:
    """threads: how many work. wait_for_idle_cores: called in such a thread before each task of the pool."""

    def __init__(self, threads: int, wait_for_idle_cores: Callable[[], None], metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._wait_for_idle_cores = wait_for_idle_cores
        self._metrics = metrics
        # Between two slices a request holds its decoded image: no more of those than there are threads.
        self._sliced = asyncio.Semaphore(threads)
        self._stopped = False

    def stop(self) -> None:
        """Begin nothing more; what runs may end."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, predictor: Predictor[Region, Output], request: DescribeInput) -> PreparedImage[Region]:
        """Decode an image and prepare its regions; cancelling it stops the work at the end of a slice.

        Raises what `decode` and `queries` raise, QueryError, and ExecutorClosed where the workers were stopped before
        the end.
        """
        image: PreparedImage[Region] = PreparedImage()
        steps = self._steps(image, predictor, request)
        if request.num_regions <= WHOLE_REGIONS:
            await self._run(steps, math.inf)
            return image
        async with self._sliced:
            while not await self._run(steps, SLICE_S):
                pass
        return image

    async def _run(self, steps: Iterator[None], seconds: float) -> bool:
        """`_work` in the pool. Raises ExecutorClosed once that is stopped."""
        if self._stopped:
            raise ExecutorClosed
        work = partial(contextvars.copy_context().run, self._work, steps, seconds)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _work(self, steps: Iterator[None], seconds: float) -> bool:
        """Take steps for so long, at least one. Whether that was all."""
        self._wait_for_idle_cores()
        until = time.monotonic() + seconds
        return all(time.monotonic() < until for _ in steps)

    def _steps(
        self, image: PreparedImage[Region], predictor: Predictor[Region, Output], request: DescribeInput
    ) -> Iterator[None]:
        """The work on one image, in one thread at a time; it may be interrupted wherever this yields."""
        began, image.began_ns = time.perf_counter(), time.time_ns()
        pixels = request.decode()
        image.decode_ms = (time.perf_counter() - began) * 1e3
        image.height, image.width = pixels.shape[:2]
        self._metrics.image_pixels.observe(image.height * image.width)
        prepared = predictor.prepare_each(pixels, request.queries(image.width, image.height))
        for _ in range(request.num_regions):
            yield
            image.regions.append(next(prepared))
