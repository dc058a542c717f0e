"""Image work: pictures are decoded and their regions prepared in a few threads that a service's requests share.

A request of few regions is one task of the pool. A larger one is cut into slices, each a task of its own that goes
behind whoever waits, so that no small request waits for the whole of one of 200 regions.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dynrefer.model import RegionQuery
from dynrefer.service.engine.batch_errors import BatcherClosed
from dynrefer.service.engine.batcher import Batcher
from dynrefer.service.engine.device_thread import Pixels, Predictor, PreparedRegion
from dynrefer.service.observability.metrics import Metrics

Decode = Callable[[], Pixels]
Ask = Callable[[int, int], list[RegionQuery]]

WHOLE_REGIONS = 8  # a request of so few is prepared in one go
SLICE_S = 0.05  # of a larger one, before the others have their turn


@dataclass(slots=True)
class Source:
    """A decoded image's size in pixels and its regions, ready for the device.

    began_ns: when its decoding began, in nanoseconds since 1970.
    """

    width: int = 0
    height: int = 0
    began_ns: int = 0
    decode_ms: float = 0.0
    prepared: list[PreparedRegion] = field(default_factory=list)


class ImageWorkers:
    """threads: how many work. batcher: tells, where batches run on the same cores, when none does."""

    def __init__(self, threads: int, batcher: Batcher[PreparedRegion, Any], metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._batcher = batcher
        self._metrics = metrics
        # Between two slices a request holds its decoded image: no more of those than are being worked at anyway.
        self._sliced = asyncio.Semaphore(threads)
        self._stopped = False

    def stop(self) -> None:
        """Begin nothing more; what runs may end."""
        self._stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def prepare(self, predictor: Predictor, regions: int, decode: Decode, ask: Ask) -> Source:
        """Decode an image and prepare its regions; cancelling it stops the work at the end of a slice.

        regions: how many queries `ask` gives for (width, height). Raises what `decode` and `ask` do, QueryError, and
        BatcherClosed where the workers stopped before they were done.
        """
        source = Source()
        steps = self._steps(source, predictor, regions, decode, ask)
        if regions <= WHOLE_REGIONS:
            await self._run(steps, math.inf)
            return source
        async with self._sliced:
            while not await self._run(steps, SLICE_S):
                pass
        return source

    async def _run(self, steps: Iterator[None], seconds: float) -> bool:
        """`_work` in the pool. Raises BatcherClosed once that has stopped."""
        if self._stopped:
            raise BatcherClosed
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(self._work, steps, seconds))

    def _work(self, steps: Iterator[None], seconds: float) -> bool:
        """Take steps for so long, one at least. Whether that was all."""
        if self._batcher.shares_cores:
            self._batcher.wait_for_idle_device()
        until = time.monotonic() + seconds
        return all(time.monotonic() < until for _ in steps)

    def _steps(self, source: Source, predictor: Predictor, regions: int, decode: Decode, ask: Ask) -> Iterator[None]:
        """The work on one image, for one thread at a time; it may rest wherever this yields."""
        began, source.began_ns = time.perf_counter(), time.time_ns()
        pixels = decode()
        source.decode_ms = (time.perf_counter() - began) * 1e3
        source.height, source.width = pixels.shape[:2]
        self._metrics.image_pixels.observe(source.height * source.width)
        prepared = predictor.prepare_each(pixels, ask(source.width, source.height))
        for _ in range(regions):
            yield
            source.prepared.append(next(prepared))
