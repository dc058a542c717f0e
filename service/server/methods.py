"""HEAD wherever GET is, and OPTIONS everywhere, as RFC 9110 (9.1, 9.3.2, 9.3.7) has them; no route needs to know."""

from starlette.datastructures import MutableHeaders
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

IMPLEMENTED = ("GET", "HEAD", "OPTIONS", "POST")


class MethodsMiddleware:
    """ASGI middleware.

    HEAD is answered as GET without the body. OPTIONS is answered with the methods of the path in `Allow`, of which it
    takes those that a refusal of the routes names; of the whole service for the target `*`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        method = scope["method"] if scope["type"] == "http" else None
        if method == "OPTIONS" and scope["path"] == "*":
            await _send_options(send, ", ".join(IMPLEMENTED))
        elif method == "HEAD":
            await self._head(scope, receive, send)
        elif method is not None:
            await self.app(scope, receive, _with_allow(scope, send, answers_options=method == "OPTIONS"))
        else:
            await self.app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # The same scope, because the routes write into it what the request log reads.
        scope["method"] = "GET"
        try:
            await self.app(scope, receive, _with_allow(scope, send_without_body, answers_options=False))
        finally:
            scope["method"] = "HEAD"


def _with_allow(scope: Scope, send: Send, answers_options: bool) -> Send:
    """Completes the `Allow` of a 405, which the framework takes of the first route of a path alone. answers_options:
    the 405 becomes the response to OPTIONS."""
    answered = False

    async def send_with_allow(message: Message) -> None:
        nonlocal answered
        if answered:
            return
        if message["type"] == "http.response.start" and message["status"] == 405:
            headers = MutableHeaders(scope=message)
            allowed = {method.strip() for method in headers.get("allow", "").split(",")} | _methods_of(scope)
            headers["Allow"] = ", ".join(
                method
                for method in IMPLEMENTED
                if method == "OPTIONS" or method in allowed or (method == "HEAD" and "GET" in allowed)
            )
            if answers_options:
                answered = True
                await _send_options(send, headers["Allow"])
                return
        await send(message)

    return send_with_allow


def _methods_of(scope: Scope) -> set[str]:
    """Of all routes of the path: there may be one for each method. What is mounted says itself what it takes."""
    routes = [each for each in scope["app"].routes if not isinstance(each, Mount)]
    asked = {method: {**scope, "method": method} for method in IMPLEMENTED}
    return {method for method in asked if any(each.matches(asked[method])[0] is Match.FULL for each in routes)}


async def _send_options(send: Send, allowed: str) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allowed.encode("ascii"))]})
    await send({"type": "http.response.body", "body": b""})
