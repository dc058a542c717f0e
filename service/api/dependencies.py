"""Dependencies of the routes, as named types. Coroutines, because the framework runs other functions in a thread."""

import re
import time
from typing import Annotated

from fastapi import Depends, Request
from opentelemetry.context import get_current

from dynrefer.model import NamedVocabularies
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.engine import Engine
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.bodies import Buffer
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.server.auth import UNIDENTIFIED, unauthorized
from dynrefer.service.settings import Settings

TIMEOUT_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


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


async def _vocabularies(request: Request) -> NamedVocabularies:
    vocabularies: NamedVocabularies = request.app.state.vocabularies
    return vocabularies


CurrentBuffer = Annotated[Buffer, Depends(_buffer)]
CurrentEngine = Annotated[Engine, Depends(_engine)]
CurrentMetrics = Annotated[Metrics, Depends(_metrics)]
CurrentSettings = Annotated[Settings, Depends(_settings)]
CurrentVocabularies = Annotated[NamedVocabularies, Depends(_vocabularies)]


def request_context(
    request: Request, settings: Settings, longest_s: float | None = None, *, unidentified: bool = False
) -> RequestContext:
    """The request's context; its deadline counts from now. longest_s: that it may take; None: as the settings say.
    unidentified: whether the key may still stand in the body, unread: `posting.respond` alone may say so.

    Raises InvalidRequestError for a malformed header, UnauthorizedError for a request whose key nobody has read.
    """
    if request.state.key == UNIDENTIFIED and not unidentified:
        raise unauthorized(request.state.surface)
    longest_s = settings.request_timeout_s if longest_s is None else longest_s
    timeout_s = _timeout_s(request.headers.get("x-request-timeout"), longest_s)
    return RequestContext(
        id=request.state.request_id,
        caller=request.state.key,
        timeout_s=timeout_s,
        deadline=time.monotonic() + timeout_s,
        began=request.state.began,
        trace=get_current(),
    )


def _timeout_s(header: str | None, longest_s: float) -> float:
    """The setting, which the header X-Request-Timeout may only shorten."""
    if header is None:
        return longest_s
    if not TIMEOUT_SECONDS.fullmatch(header.strip()) or float(header) == 0:
        raise InvalidRequestError("The header X-Request-Timeout is a positive number of seconds.")
    return min(float(header), longest_s)
