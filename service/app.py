"""The application: wiring only."""

import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from dynrefer.model import ImageError, ModelError, NamedVocabularies, Predictor, QueryError, forbid_bombs
from dynrefer.service.api import openapi
from dynrefer.service.api.routes import converse, describe, detect, operations, reload
from dynrefer.service.api.routes import vocabularies as vocabulary_routes
from dynrefer.service.api.surfaces import Surfaces, answer_problem
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Executor, Phase
from dynrefer.service.engine.passes import ImageWorkers
from dynrefer.service.engine.reloading import Reloading
from dynrefer.service.engine.serving import ModelSource
from dynrefer.service.errors import ServiceError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.inputs.url_fetch import Fetcher
from dynrefer.service.integrations import switched_on
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.observability.traces import configured_traces
from dynrefer.service.playground import mount_pages
from dynrefer.service.scale.redis_store import RedisStore, open_store
from dynrefer.service.server.auth import (
    UNIDENTIFIED,
    ApiKeyMiddleware,
    Keys,
    configured_admin_keys,
    configured_keys,
)
from dynrefer.service.server.methods import MethodsMiddleware
from dynrefer.service.server.request_log import RequestLogMiddleware
from dynrefer.service.server.root_path import RootPathMiddleware
from dynrefer.service.settings import Settings, SettingsError
from dynrefer.service.workers.pool import PoolLimits, WorkerPool, default_processes
from dynrefer.service.workers.threads import WorkerThreads

if TYPE_CHECKING:
    from dynrefer.service.scale.ray.executor import Replicas

logger = logging.getLogger(__name__)

# How long a thread keeps the interpreter while another waits for it. The event loop lets go of it at every read and
# write, several times a request; with the default, 5 ms, each costs so much beside a thread that parses.
SWITCH_INTERVAL_S = 0.001
USUAL_PIXELS = 50_000_000  # where larger images are allowed, their decoding may take longer in proportion
PAGE_HEADERS = ("Authorization", "Content-Type", "X-Request-Id", "X-Request-Timeout", "traceparent")
DEBUG_THREADS = 2  # of image work without worker processes


def create_app(
    settings: Settings,
    predictor: Predictor[Any, Any] | None = None,
    on_loss: Callable[[], None] = lambda: None,
    load_another: Callable[[str], Predictor[Any, Any]] | None = None,
    replicas: "Replicas | None" = None,
) -> FastAPI:
    """The service as an ASGI application. Raises SettingsError for an invalid file of keys or of a vocabulary, and for
    an integration or a shared cache that lacks something.

    predictor: given by tests; else the model of the settings is loaded in the background once the application
    starts, and /readyz is 503 until it is warmed up. The engine is at `app.state.engine`.
    on_loss: called in a thread once the device is given up or the model could not be loaded.
    load_another: given by tests too; loads, by its name or directory, what an administrator lets serve.
    replicas: run the model of the settings, where the service is itself a part of a Ray application; with engine ray
    and None it starts its own.
    """
    metrics, traces = Metrics(), configured_traces(settings)
    keys = Keys(configured_keys(settings), configured_admin_keys(settings))
    vocabularies, integrations = _vocabularies(settings), switched_on(settings)
    named = dict(zip(settings.integrations, integrations, strict=True))
    keyless = frozenset(named[name].surface.name for name in settings.keyless_integrations)
    # Replicas of the model have the cache of their own processes.
    shared = None if settings.engine == "ray" else open_store(settings)

    def make_executor(source: ModelSource) -> Executor[Any, Any]:
        """Of another model than the first one."""
        if settings.engine == "ray":
            return replica_executor(settings, source.location, metrics)
        of_settings = loader(settings, None, source.location, shared)
        load = of_settings if load_another is None else partial(load_another, source.location)
        return DeviceThread(settings, load, metrics)

    # Of this process, or of those that replicas run in.
    metrics.watch_shared_cache(lambda: engine.models.counts().shared_cache if shared is None else shared.counts)
    executor: Executor[Any, Any]
    if settings.engine == "ray":
        executor = replica_executor(settings, settings.model, metrics, replicas)
    else:
        executor = DeviceThread(settings, loader(settings, predictor, shared=shared), metrics)
    # Of whatever model serves by then.
    workers = image_workers(settings, lambda: engine.wait_for_idle_cores(), metrics)
    engine = Engine(executor, workers, metrics, ModelSource(settings.model, settings.model))
    reloading = Reloading(engine, make_executor, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        forbid_bombs(settings.max_image_pixels)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        engine.start(on_loss)
        async with AsyncExitStack() as stack:
            for each in integrations:
                await stack.enter_async_context(each.lifespan(app))
            yield
        await reloading.stop()
        await engine.stop(settings.shutdown_grace_s)
        if shared is not None:
            shared.close()
        traces.close()

    app = FastAPI(
        title=openapi.TITLE,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,  # operation ids, which clients are generated with
        # A redirect would lead to whatever host the client names in its Host header, and out of a proxy's path prefix.
        redirect_slashes=False,
        # Outermost first. The framework's own handler of unexpected errors is outside of these and never reached.
        middleware=[
            *([Middleware(RootPathMiddleware, root_path=settings.root_path)] if settings.root_path else []),
            Middleware(
                RequestLogMiddleware,
                metrics=metrics,
                surfaces=Surfaces([each.surface for each in integrations]),
                closing=lambda: engine.phase is Phase.DRAINING,
            ),
            *traces.middleware,
            *_cross_origin(settings, [name for each in integrations for name in each.surface.page_headers]),
            Middleware(ApiKeyMiddleware, keys=keys, keyless=keyless),
            Middleware(MethodsMiddleware),
        ],
        exception_handlers={
            ServiceError: answer_problem,
            QueryError: answer_problem,
            ImageError: answer_problem,
            HTTPException: answer_problem,
        },
    )
    app.state.engine, app.state.metrics, app.state.settings = engine, metrics, settings
    app.state.reloading, app.state.keys = reloading, keys
    app.state.tracer, app.state.fetcher = traces.tracer, _fetcher(settings)
    buffer = Buffer(
        settings.max_buffered_bytes,
        settings.key_buffered_bytes,
        lambda reason: metrics.rejected.labels(reason).inc(),
        {UNIDENTIFIED: settings.unidentified_buffered_bytes},
    )
    app.state.vocabularies = vocabularies
    metrics.watch_buffer(lambda: buffer.held_bytes)
    app.state.buffer = buffer
    app.include_router(describe.router)
    app.include_router(detect.router)
    app.include_router(converse.router)
    app.include_router(operations.router)
    app.include_router(vocabulary_routes.router)
    if keys.admin_names:
        app.include_router(reload.router)
    if settings.metrics_port is None:
        app.include_router(operations.metrics_router)
    for each in integrations:
        # Several of them may have a route `health`.
        app.include_router(each.router, generate_unique_id_function=partial(_id_of_route, each.surface.name))
    mount_pages(app)
    openapi.mount_document(app, with_keys=keys.required)
    return app


def _id_of_route(surface: str, route: APIRoute) -> str:
    """The operation id of an integration's route."""
    return f"{surface.replace('-', '_')}_{route.name}"


def replica_executor(
    settings: Settings, location: str, metrics: Metrics, replicas: "Replicas | None" = None
) -> Executor[Any, Any]:
    """Replicas of a model in other processes: those given, or new ones. Needs Ray, and a cluster that was joined."""
    from dynrefer.service.scale.ray.application import LocalReplicas
    from dynrefer.service.scale.ray.executor import ReplicaExecutor

    return ReplicaExecutor(settings, replicas or LocalReplicas(settings, location), metrics)


def image_workers(settings: Settings, wait_for_idle_cores: Callable[[], None], metrics: Metrics) -> ImageWorkers:
    """Worker processes, unless the settings ask for none. wait_for_idle_cores: see `WorkerThreads`."""
    processes = settings.worker_processes
    if processes is None:
        processes = default_processes(settings.device)
    if not processes:
        return WorkerThreads(DEBUG_THREADS, wait_for_idle_cores, metrics)
    larger = max(1.0, settings.max_image_pixels / USUAL_PIXELS)
    limits = PoolLimits(
        processes=processes,
        cpu_s=settings.image_cpu_s * larger,
        wall_s=settings.image_wall_s * larger,
        max_pixels=settings.max_image_pixels,
        memory_bytes=settings.worker_memory_bytes,
    )
    return WorkerPool(limits, metrics)


def _vocabularies(settings: Settings) -> NamedVocabularies:
    try:
        return NamedVocabularies.load(settings.vocabularies)
    except ModelError as error:
        raise SettingsError(str(error)) from None


def _cross_origin(settings: Settings, further_headers: Sequence[str]) -> list[Middleware]:
    """Outside of the keys: a browser's preflight request carries none."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[*PAGE_HEADERS, *further_headers],
            expose_headers=["X-Request-Id", "Server-Timing", "Retry-After"],
        )
    ]


def _fetcher(settings: Settings) -> Fetcher | None:
    if not settings.image_url_hosts:
        return None
    return Fetcher(settings.image_url_hosts, settings.max_body_bytes, settings.image_url_timeout_s)


def loader(
    settings: Settings,
    predictor: Predictor[Any, Any] | None,
    model: str | None = None,
    shared: RedisStore | None = None,
) -> Callable[[], Predictor[Any, Any]]:
    """What loads a model, called in the device thread. predictor: is there already, in tests. model: a name or a
    directory; None: that of the settings. shared: what `open_store` gives for the settings, one for all models."""
    model = settings.model if model is None else model
    if predictor is not None:
        return lambda: predictor

    def load() -> Predictor[Any, Any]:
        from dynrefer.model import begin_start, gc_paused, import_lean

        began = time.perf_counter()
        start = begin_start(model, settings.device)
        with gc_paused():
            import_lean("dynrefer.model.predictor")  # and with it torch; called in the device thread
        imported = time.perf_counter()
        start.join()
        logger.debug(
            "imported the model's code in %.1f s; the device took %.1f s longer",
            imported - began,
            time.perf_counter() - imported,
        )
        from dynrefer.model import DynRefer

        return DynRefer.load(
            model,
            device=settings.device,
            dtype=settings.dtype,
            cache_bytes=settings.cache_bytes,
            text_cache_bytes=settings.text_cache_bytes,
            cpu_kernels=settings.cpu_kernels,
            cuda_graphs=settings.cuda_graphs,
            batching=settings.batching,
            segmenter=settings.segmenter,
            finder=settings.finder,
            converser=settings.converser,
            shared_cache=shared,
        )

    return load
