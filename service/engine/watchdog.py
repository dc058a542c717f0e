"""The watchdog of a device thread: a batch without a heartbeat is considered stuck."""

import logging
import threading
from typing import Any

from dynrefer.service.engine.batcher import Batcher
from dynrefer.service.observability.logs import bind_request_id

logger = logging.getLogger(__name__)

# The longest time between two looks; settings with shorter times make it shorter.
WATCH_EVERY_S = 1.0


class Watchdog:
    """stall_s: silence after which a batch is considered stuck: nothing is admitted until its next heartbeat.

    grace_s: how long it may be stuck before the device is given up. stuck: whether it is now.
    """

    def __init__(self, batcher: Batcher[Any, Any], stall_s: float, grace_s: float) -> None:
        self._batcher = batcher
        self._stall_s, self._grace_s = stall_s, grace_s
        self.stuck = False

    def watch(self, thread: threading.Thread) -> bool:
        """Return once the device thread has ended, or has been stuck for too long. Whether it has ended."""
        every_s = min(WATCH_EVERY_S, self._stall_s / 4)
        while thread.is_alive() and self._batcher.silent_s <= self._stall_s + self._grace_s:
            thread.join(every_s)
            with bind_request_id(self._batcher.running_ids):
                self._look(self._batcher.silent_s > self._stall_s)
        return not thread.is_alive()

    def _look(self, silent: bool) -> None:
        if silent and not self.stuck:
            logger.error("the device has shown no sign of progress for %g s", self._stall_s)
            self.stuck = True
            self._batcher.suspend()
        elif self.stuck and not silent:
            logger.info("the device answers again")
            self.stuck = False
            self._batcher.resume()
