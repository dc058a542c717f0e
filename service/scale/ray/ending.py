"""Applications of Serve, ended by a process that may be ending itself, with a clock that nobody sets."""

import logging
import re
import time

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from dynrefer.service.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

EVERY_S = 0.2
# Beyond the time that its replicas have for what they are at; Serve ends them by force then.
REST_S = 60.0
# What Serve raises where its controller or the cluster is gone, or this process has left it.
GONE = RayError, RayServeException, RuntimeError, ValueError


def drain_s(settings: Settings) -> float:
    """How long replicas have for what they are at, once they are to end."""
    return settings.shutdown_grace_s + 5.0


def applications() -> list[str]:
    """Names of those that there are, the ones that are ending included. Raises one of GONE."""
    return list(serve.status().applications) if ray.is_initialized() else []


def end_application(name: str, within_s: float) -> bool:
    """Return once it has ended, or this process has left the cluster. False: it is still ending, after so many seconds.

    `serve.delete` itself raises after a minute of the clock of the day. Raises one of GONE.
    """
    if not ray.is_initialized():
        return True
    serve.delete(name, _blocking=False)
    until = time.monotonic() + within_s
    while name in applications():
        if time.monotonic() > until:
            return False
        time.sleep(EVERY_S)
    return True


def end_own(settings: Settings) -> None:
    """End all that go by the settings' name, as far as that works: this process ends too."""
    try:
        left = [name for name in _own(settings) if not end_application(name, drain_s(settings) + REST_S)]
    except GONE as error:
        logger.warning("replicas of this service may be left in the cluster: %r", error)
        return
    if left:
        logger.warning("replicas of this service are left in the cluster, and end later: %s", ", ".join(left))


def end_leftovers(settings: Settings) -> None:
    """End those of a process that was killed. Raises SettingsError where they stay."""
    try:
        left = [name for name in _own(settings) if not end_application(name, drain_s(settings) + REST_S)]
    except GONE as error:
        raise SettingsError(f"ray_address {settings.ray_address}: Serve does not answer there: {error!r}.") from error
    if left:
        raise SettingsError(
            f"ray_name {settings.ray_name}: replicas of a service with this name do not end ({', '.join(left)}); "
            "choose another name."
        )


def _own(settings: Settings) -> list[str]:
    return [name for name in applications() if re.fullmatch(rf"{re.escape(settings.ray_name)}-[0-9]+", name)]
