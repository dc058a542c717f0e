"""Server-sent events (WHATWG HTML, 9.2) as a response that is written while its request is worked on.

What a request holds (its room in the queue, its part of the body buffer, its deadline) it holds until its last event,
and a client that leaves ends the work: so the work runs where the response is sent, and not before.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from dynrefer.service.api.problems import told
from dynrefer.service.observability.metrics import outcome_of

logger = logging.getLogger(__name__)

# Buffering proxies (nginx reads the last header) would hold events back, and caches keep what is asked once.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
LAST_EVENT_S = 1.0  # for a client that has not read for so long that its deadline passed


class EventStream:
    """Events of one response, which begins with the first of them. send: of its request."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def event(self, name: str, data: str) -> None:
        """Send one event; returns once the client has room for more. data: without line breaks, as JSON is written."""
        if not self.begun:
            response = Response(media_type="text/event-stream", headers=HEADERS)
            headers = [each for each in response.raw_headers if each[0] != b"content-length"]
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        body = f"event: {name}\ndata: {data}\n\n".encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        """No more events."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class LiveResponse(Response):
    """A response that `work` either sends as events, or returns where it has sent none.

    What fails before the first event is an error like any other; afterwards it is the last event, `error`, with the
    problem document as its data.
    """

    def __init__(self, work: Callable[[EventStream], Awaitable[Response]], state: dict[str, Any]) -> None:
        """state: the request's, as `RequestLogMiddleware` sets it."""
        super().__init__()
        self._work = work
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request's whole work. Raises what it raises before the first event."""
        stream = EventStream(send)
        try:
            response = await self._work(stream)
        except Exception as error:
            # The border of the application, once there are events: the client has to learn of any error by one.
            if not stream.begun:
                raise
            await self._end_with(error, stream)
            return
        if not stream.begun:
            await response(scope, receive, send)
        else:
            self._state["ended_as"] = response.status_code
            await stream.end()

    async def _end_with(self, error: Exception, stream: EventStream) -> None:
        problem = told(error, self._state["request_id"])
        self._state["ended_as"] = problem.kind.status
        if outcome_of(problem.kind.status) == "failed":
            logger.error("request %s failed after its response had begun", self._state["request_id"], exc_info=error)
        try:
            async with asyncio.timeout(LAST_EVENT_S):
                await stream.event("error", json.dumps(problem.document, ensure_ascii=False))
                await stream.end()
        except TimeoutError:
            logger.debug("a client reads no more of its events")
