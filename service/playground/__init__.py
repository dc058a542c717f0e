"""The pages: the playground at /, the API's documentation to try (Swagger UI, /docs) and to read (Redoc, /redoc), with
all that they load.

Every address in them is relative, so that they work behind a proxy that puts a path prefix before them.
"""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent

# Nothing is loaded from other hosts, and no inline script is run. Swagger UI's icons are data: URLs.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# Of Redoc's two style elements: an empty one, to which styled-components adds its rules through the CSSOM, and that of
# its tabs. No other inline style is applied.
REDOC_STYLES = ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc=")
REDOC_POLICY = {
    **POLICY,
    "style-src": " ".join(["'self'", *(f"'sha256-{digest}'" for digest in REDOC_STYLES)]),
    "worker-src": "blob:",  # its search runs in a worker whose code is in the bundle
}
# An upgrade of the service must not meet a script of the version before.
REVALIDATE = {"Cache-Control": "no-cache"}


def mount_pages(app: FastAPI) -> None:
    """Add the pages and the folder with their scripts and styles."""

    @app.get("/", include_in_schema=False)
    async def playground() -> FileResponse:
        return _page("playground.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return _page("docs.html")

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> FileResponse:
        return _page("redoc.html", REDOC_POLICY)

    app.mount("/static", _Assets(directory=HERE / "static"), name="static")


class _Assets(StaticFiles):
    """Files whose names stay the same from version to version: browsers ask each time whether their copy is current."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """As of `StaticFiles`, which answers 304 where the copy is."""
        response = super().file_response(*arguments, **options)
        response.headers.update(REVALIDATE)
        return response


def _page(name: str, policy: dict[str, str] = POLICY) -> FileResponse:
    """A page with its headers. policy: directive -> sources of its Content-Security-Policy."""
    headers = {
        "Content-Security-Policy": "; ".join(f"{directive} {sources}" for directive, sources in policy.items()),
        "Referrer-Policy": "no-referrer",
        **REVALIDATE,
    }
    return FileResponse(HERE / "static" / name, headers=headers)
