"""What every route may ask for, as named types. Coroutines, because the framework runs plain functions in a thread."""

from typing import Annotated

from fastapi import Depends, Request

from dynrefer.service.engine.engine import Engine
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _buffer(request: Request) -> Buffer:
    buffer: Buffer = request.app.state.buffer
    return buffer


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


CurrentBuffer = Annotated[Buffer, Depends(_buffer)]
CurrentEngine = Annotated[Engine, Depends(_engine)]
CurrentMetrics = Annotated[Metrics, Depends(_metrics)]
CurrentSettings = Annotated[Settings, Depends(_settings)]
