"""A predictor's continuous batch as the device thread uses it: counted, and emptied where memory is short."""

import logging
import time
from collections.abc import Sequence
from typing import Generic

from dynrefer.model import BatchLimits, ContinuousBatch
from dynrefer.model.errors import DeviceError, DeviceMemoryError
from dynrefer.service.engine.executor import Region
from dynrefer.service.engine.reservations import Output
from dynrefer.service.observability.metrics import Metrics

logger = logging.getLogger(__name__)


class DeviceBatch(Generic[Region, Output]):
    """A `ContinuousBatch` around another one."""

    def __init__(self, batch: ContinuousBatch[Region, Output], metrics: Metrics) -> None:
        self._batch = batch
        self._metrics = metrics
        self._tickets: set[int] = set()

    @property
    def room(self) -> BatchLimits:
        """See `ContinuousBatch`."""
        return self._batch.room

    def admit(self, regions: Sequence[Region]) -> list[int]:
        """See `ContinuousBatch`."""
        self._metrics.observe_batch(len(regions), sum(region.num_views for region in regions))
        try:
            tickets = self._batch.admit(regions)
        except DeviceMemoryError:
            self._note_oom("%d region(s) beside %d", len(regions), len(self._tickets))
            raise
        self._tickets.update(tickets)
        return tickets

    def advance(self) -> list[tuple[int, Output]]:
        """See `ContinuousBatch`."""
        try:
            complete = self._batch.advance()
        except DeviceMemoryError:
            self._note_oom("the %d region(s) on the device", len(self._tickets))
            raise
        self._tickets.difference_update(ticket for ticket, _ in complete)
        return complete

    def drop(self, tickets: Sequence[int]) -> None:
        """See `ContinuousBatch`."""
        self._batch.drop(tickets)
        self._tickets.difference_update(tickets)

    def clear(self) -> None:
        """Let go of everything."""
        self.drop(list(self._tickets))

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

    def _note_oom(self, what: str, *numbers: int) -> None:
        self._metrics.device_oom.inc()
        logger.warning(f"no memory for {what}", *numbers)
