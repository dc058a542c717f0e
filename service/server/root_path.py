"""A path prefix that a proxy in front leaves in the requests."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """ASGI middleware: takes the prefix off the path of a request that has it; others, such as probes, pass unchanged.

    root_path: begins with a slash and ends with none.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] == "http" and scope["path"].startswith(self._root_path + "/"):
            scope["path"] = scope["path"].removeprefix(self._root_path)
            scope["raw_path"] = scope.get("raw_path", b"").removeprefix(self._root_path.encode("ascii"))
        await self.app(scope, receive, send)
