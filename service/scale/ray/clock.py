"""Serve's controller kept from the clock of the day, which may be set back.

Serve 2.60 counts by `time.time()` when it asked a replica for its health last. Set back by an hour, it asks for none
for an hour: replicas that die are not replaced, and in the end none is left (`python -m benchmarks.scale_soak --faults
"clock step,kill,kill"` shows it). So its module is given a clock that starts as the one of the day does and then goes
on by the monotonic one.
"""

import logging
import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.serve._private import deployment_state
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0


class SteadyTime:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, as they were when this was made, and since then by the monotonic clock."""
        return self._start + time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def steady(_controller: object = None) -> None:
    """Called in the controller's process."""
    module: Any = deployment_state
    if not isinstance(module.time, SteadyTime):
        module.time = SteadyTime()


def keep_controller_steady() -> None:
    """Of the cluster that this process is connected to. Where it does not work, the log says so."""
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ray.get(controller.__ray_call__.remote(steady), timeout=PATIENCE_S)
    except (AttributeError, ValueError, RayError, GetTimeoutError) as error:
        logger.warning("Serve's controller counts by the clock of the day, which nobody may set back: %s", error)
