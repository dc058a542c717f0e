"""The application: wiring only."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from model.errors import QueryError

from . import images, openapi
from .auth import KeyGuard
from .engine import Engine, Predictor
from .errors import ServiceError, answer_problem
from .metrics import Metrics
from .playground import mount_pages
from .record import RequestRecord
from .routes import describe, operations
from .settings import Settings


def create_app(settings: Settings, predictor: Predictor | None = None) -> FastAPI:
    """The service as an ASGI application.

    predictor: given by tests; else the model of the settings is loaded in the background once the application
    starts, and /readyz is 503 until it is warm. The engine stands at `app.state.engine`.
    """
    metrics = Metrics()
    engine = Engine(settings, _loader(settings, predictor), metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        images.forbid_bombs()
        engine.start()
        yield
        await engine.stop(settings.shutdown_grace_s)

    app = FastAPI(
        title=openapi.TITLE,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Outermost first. The framework's own handler of unforeseen errors stands outside of these and never
        # acts.
        middleware=[Middleware(RequestRecord, metrics=metrics), Middleware(KeyGuard, keys=settings.api_keys)],
        exception_handlers={
            ServiceError: answer_problem,
            QueryError: answer_problem,
            HTTPException: answer_problem,
        },
    )
    app.state.engine, app.state.metrics, app.state.settings = engine, metrics, settings
    app.include_router(describe.router)
    app.include_router(operations.router)
    mount_pages(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def _loader(settings: Settings, predictor: Predictor | None) -> Callable[[], Predictor]:
    if predictor is not None:
        return lambda: predictor

    def load() -> Predictor:
        from model import DynRefer  # brings in torch; called in the device thread

        return DynRefer.load(settings.model, device=settings.device, dtype=settings.dtype)

    return load
