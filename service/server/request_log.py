"""The outermost middleware: gives every request its id, its times, its line in the log and its counts in the metrics.

Errors that nothing else caught end here, with a traceback in the log and a problem document for the client.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynrefer.service.api.surfaces import CORE, Surfaces, refusal
from dynrefer.service.errors import UnavailableError
from dynrefer.service.observability.logs import bind_request_id
from dynrefer.service.observability.metrics import Metrics, outcome_of
from dynrefer.service.server.auth import PROBES

logger = logging.getLogger("service.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # an X-Request-Id that is used as it is
UNMATCHED = "unmatched"


class RequestLogMiddleware:
    """ASGI middleware. Sets `scope["state"]`: request_id, surface, began (perf_counter seconds), timings_ms, key
    and admin. Reads `ended_as`: the status that a response which had begun as another would have had by its end.

    closing: whether responses are to end their connections.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, surfaces: Surfaces, closing: Callable[[], bool]) -> None:
        self.app = app
        self._metrics = metrics
        self._surfaces = surfaces
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, whatever happens inside; every line that is logged meanwhile carries its id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        with bind_request_id(request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        surface = self._surfaces.of(scope["path"])
        state.update(request_id=request_id, surface=surface, began=began, timings_ms={}, key=None, admin=False)
        status, body_unrequested = 0, "expect" in Headers(scope=scope)

        async def receive_recorded() -> Message:
            nonlocal body_unrequested
            body_unrequested = False
            return await receive()

        async def send_recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Server-Timing"] = _server_timing(state["timings_ms"], began)
                # While shutting down, so that the client sends its next request elsewhere. A client that waits for 100
                # Continue may send its body now or not, and what it sends next could be taken for either.
                if self._closing() or body_unrequested:
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self.app(scope, receive_recorded, send_recorded)
        except asyncio.CancelledError:
            # Only the end of the grace time cancels a request from outside; it still gets a response.
            if status:
                raise
            error = UnavailableError("The service is shutting down.")
            await refusal(error, state)(scope, receive, send_recorded)
        except Exception as error:
            # The outer boundary of the application: whatever was raised, the client gets a response, the log a
            # traceback.
            logger.exception("request %s failed", request_id)
            if not status:
                await refusal(error, state)(scope, receive, send_recorded)
        finally:
            self._record(scope, state.get("ended_as", status), time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """The request's line in the log and its counts in the metrics. status: 0 where no response was begun."""
        route, surface = _route_template(scope), scope["state"]["surface"]
        self._metrics.requests.labels(route, outcome_of(status), surface.name).inc()
        self._metrics.request_seconds.labels(route, surface.name).observe(seconds)
        fields: dict[str, Any] = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1e3, 3),
        }
        if surface is not CORE:
            fields["surface"] = surface.name
        if scope["state"]["key"] is not None:
            fields["key"] = scope["state"]["key"]  # the key's name
        # Probes come every few seconds without end: they are logged at the level debug alone.
        level = logging.DEBUG if route in PROBES or route in surface.open_paths else logging.INFO
        logger.log(level, "%s %s %d", fields["method"], route, status, extra={"fields": fields})


def new_request_id() -> str:
    """An id for a request that has none of its own."""
    return f"req_{secrets.token_hex(8)}"


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else new_request_id()


def _server_timing(timings_ms: Mapping[str, float], began: float) -> str:
    stages = {**timings_ms, "total": (time.perf_counter() - began) * 1e3}
    return ", ".join(f"{stage};dur={value:.3f}" for stage, value in stages.items())


def _route_template(scope: Scope) -> str:
    """The route's template, never the path: clients choose paths, but label values must be few."""
    return getattr(scope.get("route"), "path", UNMATCHED)
