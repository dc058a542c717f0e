"""A predictor's continuous batch as the device thread uses it: with metrics and a warm-up."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic

from dynrefer.model import BatchLimits, ContinuousBatch
from dynrefer.model.errors import DeviceError, DeviceMemoryError
from dynrefer.service.engine.executor import Region
from dynrefer.service.engine.reservations import Output
from dynrefer.service.observability.metrics import Metrics


class DeviceBatch(Generic[Region, Output]):
    """A `ContinuousBatch` around another one."""

    def __init__(self, batch: ContinuousBatch[Region, Output], metrics: Metrics) -> None:
        self._batch = batch
        self._metrics = metrics

    @property
    def room(self) -> BatchLimits:
        """See `ContinuousBatch`."""
        return self._batch.room

    def admit(self, regions: Sequence[Region]) -> list[int]:
        """See `ContinuousBatch`."""
        self._metrics.observe_batch(len(regions), sum(region.num_views for region in regions))
        with self._counting_oom():
            return self._batch.admit(regions)

    def advance(self) -> list[tuple[int, Output]]:
        """See `ContinuousBatch`."""
        with self._counting_oom():
            return self._batch.advance()

    def drop(self, tickets: Sequence[int]) -> None:
        """See `ContinuousBatch`."""
        self._batch.drop(tickets)

    def warm_up(self, regions: Sequence[Region], most_s: float) -> list[Output]:
        """Regions that nothing else is beside, from their beginning to their end, uncounted; an output each, in order.

        Raises as `admit` and `advance` do, and DeviceError where they are not complete after `most_s` seconds.
        """
        tickets = self._batch.admit(regions)
        outputs: dict[int, Output] = {}
        until = time.monotonic() + most_s
        while len(outputs) < len(tickets):
            if time.monotonic() > until:
                self._batch.drop(tickets)
                raise DeviceError(f"a region was not complete after {most_s:g} s.")
            outputs |= dict(self._batch.advance())
        return [outputs[ticket] for ticket in tickets]

    @contextmanager
    def _counting_oom(self) -> Iterator[None]:
        try:
            yield
        except DeviceMemoryError:
            self._metrics.device_oom.inc()
            raise
