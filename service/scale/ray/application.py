"""Serve's applications: replicas for an edge that is a process of our own, and an edge inside the cluster with them.

The first is what `dynrefer serve --engine ray` starts. The second is for `serve run` and KubeRay, whose configuration
names `build` (docker/ray/serve.yaml): there Ray's own proxies speak HTTP, and the edge is a deployment too.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from dynrefer.model.errors import ModelError
from dynrefer.service.engine.executor import Phase
from dynrefer.service.scale.ray import cluster
from dynrefer.service.scale.ray.autoscaling import ByRegions
from dynrefer.service.scale.ray.clock import keep_controller_steady
from dynrefer.service.scale.ray.ending import GONE, REST_S, drain_s, end_application, end_leftovers, end_own
from dynrefer.service.scale.ray.gpus import gpus_of_cluster, gpus_of_each, lack_of_gpus
from dynrefer.service.scale.ray.replica import ModelReplica
from dynrefer.service.scale.ray.routing import LeastRegions
from dynrefer.service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from dynrefer.service.engine.engine import Engine

MODEL, EDGE = "model", "edge"  # the deployments
MOST_CALLS = 10_000  # of a replica at a time: its own queue is what bounds them
HEALTH_EVERY_S, HEALTH_WITHIN_S = 2.0, 10.0  # three times in a row, and Serve replaces the replica
WATCH_EVERY_S = 0.05  # an edge that waits for its first replica
ATTEMPTS = 3  # to start a replica: a model that cannot be loaded will not be at the tenth either
QUEUE_LOOK_BACK_S = 10.0
MODEL_ERROR = re.compile(r"^dynrefer\.model\.errors\.\w+: (.+)$", re.MULTILINE)

logger = logging.getLogger(__name__)

_numbers = itertools.count(1)


class LocalReplicas:
    """`executor.Replicas` of one model, started and ended by this process. location: of the model."""

    def __init__(self, settings: Settings, location: str) -> None:
        self.name = f"{settings.ray_name}-{next(_numbers)}"
        self.version = ""  # it is never replaced by another: a changed model is another application
        self._settings = settings
        self._location = location

    def begin(self) -> Any:
        """See `Replicas`."""
        try:
            serve.start(proxy_location="Disabled")
            _log_as_others_do()
            keep_controller_steady()
            return serve.run(_replicas(self._settings, self._location, self.version), name=self.name, route_prefix=None)
        except (RuntimeError, RayError) as error:
            sentence = _reason(self.name) or f"the replicas cannot be started: {_first_line(str(error))}"
            self.end()
            raise ModelError(sentence) from None

    def end(self) -> None:
        """See `Replicas`."""
        if not self.alive:
            return
        try:
            if not end_application(self.name, drain_s(self._settings) + REST_S):
                logger.warning("the replicas of %s end later than they should", self.name)
        except GONE as error:
            logger.warning("the replicas of %s cannot be ended: %r", self.name, error)

    def hand_over(self, items: list[Any]) -> Any:
        """See `Replicas`: by the object store."""
        return ray.put(items)

    @property
    def alive(self) -> bool:
        """See `Replicas`."""
        return bool(ray.is_initialized()) and cluster.alive()


class GivenReplicas:
    """`executor.Replicas` that Serve starts and ends with the edge. handle: of `ModelReplica`. version: see there."""

    def __init__(self, handle: Any, version: str) -> None:
        self.name: str = handle.app_name
        self.version = version
        self._handle = handle

    def begin(self) -> Any:
        """See `Replicas`. Whether one is there is for whoever asks it to find out."""
        keep_controller_steady()
        return self._handle

    def end(self) -> None:
        """See `Replicas`."""

    def hand_over(self, items: list[Any]) -> Any:
        """See `Replicas`: by the object store."""
        return ray.put(items)

    @property
    def alive(self) -> bool:
        """See `Replicas`: where its cluster is not, this process is not either."""
        return True


class Edge:
    """The service as a deployment of Serve. given: settings by name, over the environment. version: see `Replicas`.

    It has one model as long as it lives. Of another version of the application Serve starts other edges too.
    """

    def __init__(self, given: Mapping[str, Any], replicas: Any, version: str) -> None:
        self._settings = Settings(**given)
        self._replicas = GivenReplicas(replicas, version)
        self._engine: Engine | None = None
        self._began = False

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve once, on its event loop."""
        from dynrefer.service.app import create_app
        from dynrefer.service.observability import logs

        logs.configure(self._settings)
        app = create_app(self._settings, replicas=self._replicas)
        self._engine = app.state.engine
        return app

    async def check_health(self) -> None:
        """Called by Serve: once before the edge is sent anything, which it is once this returns, and then every few
        seconds; it replaces one that raises. Raises ModelError where the replicas are lost.

        The first call waits for a replica with the model: until then the edges of the version before go on.
        """
        engine = self._engine
        while engine is not None and not self._began and engine.phase is Phase.LOADING:
            await asyncio.sleep(WATCH_EVERY_S)
        self._began = True
        if engine is not None and engine.lost:
            raise ModelError("the replicas are lost, or have another model now.")


def require_gpus(settings: Settings) -> None:
    """That the replicas find their GPUs: Serve would wait for them without a word, and without an end.

    Raises SettingsError where the cluster is this process's own; one that was joined may have more of them later.
    """
    if lack := lack_of_gpus(settings, gpus_of_cluster()):
        if not settings.ray_address:
            raise SettingsError(f"{lack}.")
        logger.warning("%s; until then replicas wait for them", lack)


@contextmanager
def without_leftovers(settings: Settings) -> Iterator[None]:
    """Inside of a cluster: end the replicas that go by the settings' name, before the block those of a process that was
    killed, and after it one's own, in a cluster that outlives them. Raises SettingsError."""
    if settings.ray_address:
        end_leftovers(settings)
    try:
        yield
    finally:
        if settings.ray_address:
            end_own(settings)


def build(given: Mapping[str, Any]) -> Any:
    """The application with an edge, for Serve's configuration files. given: `args` there, settings by name.

    `edges` among them is how many edges there are.
    """
    options = dict(given)
    edges = int(options.pop("edges", 1))
    settings = Settings(**{**options, "engine": "ray"})
    version = sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()
    edge = _deployment(
        serve.ingress()(Edge),
        name=EDGE,
        num_replicas=edges,
        max_ongoing_requests=MOST_CALLS,
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=drain_s(settings),
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=HEALTH_EVERY_S,
        health_check_timeout_s=HEALTH_WITHIN_S,
        max_surge_percent=100,
    )
    return edge.bind({**options, "engine": "ray"}, _replicas(settings, settings.model, version), version)


def _replicas(settings: Settings, location: str, version: str) -> Any:
    """The deployment of `ModelReplica`, bound. version: see `Replicas`."""
    scaling: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas is not None:
        scaling = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=settings.min_replicas or 1,
                initial_replicas=settings.replicas,
                max_replicas=settings.max_replicas,
                look_back_period_s=QUEUE_LOOK_BACK_S,
                upscale_delay_s=settings.upscale_delay_s,
                downscale_delay_s=settings.downscale_delay_s,
                policy=AutoscalingPolicy(
                    policy_function=f"{ByRegions.__module__}:{ByRegions.__name__}",
                    policy_kwargs={"regions_per_replica": settings.regions_per_replica},
                ),
            )
        }
    deployment = _deployment(
        ModelReplica,
        name=MODEL,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": gpus_of_each(settings)},
        max_ongoing_requests=MOST_CALLS,
        max_queued_requests=-1,
        graceful_shutdown_timeout_s=drain_s(settings),
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=HEALTH_EVERY_S,
        health_check_timeout_s=HEALTH_WITHIN_S,
        max_constructor_retry_count=ATTEMPTS,
        max_surge_percent=100,
        request_router_config={"request_router_class": f"{LeastRegions.__module__}:{LeastRegions.__name__}"},
        **scaling,
    )
    return deployment.bind(settings.without_secrets(), location, version)


def _deployment(of: Any, **options: Any) -> Any:
    """Serve's decorator returns what its type does not say."""
    found: Any = serve.deployment(of)
    return found.options(**options)


def _log_as_others_do() -> None:
    """Serve writes to standard error in a form of its own otherwise, beside the log."""
    serves = logging.getLogger("ray.serve")
    serves.handlers.clear()
    serves.propagate = True
    serves.setLevel(logging.WARNING)


def _reason(application: str) -> str | None:
    """What its replicas raised, if it was one of the model's own errors: Serve has the traceback of it as text."""
    with contextlib.suppress(KeyError, *GONE):
        deployments = serve.status().applications[application].deployments
        for found in (MODEL_ERROR.findall(each.message) for each in deployments.values()):
            if found:
                return str(found[-1])
    return None


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason was given")
