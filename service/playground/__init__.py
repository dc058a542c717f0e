"""The pages: the playground at / and the API's documentation (Swagger UI) at /docs, with all that they load.

Every address in them is relative, so that they work behind a proxy that puts a path prefix before them.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent

# Nothing is loaded from other hosts, and no inline script is run. Swagger UI's icons are data: URLs.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def mount_pages(app: FastAPI) -> None:
    """Add both pages and the folder with their scripts and styles."""

    @app.get("/", include_in_schema=False)
    async def playground() -> FileResponse:
        return FileResponse(HERE / "static" / "playground.html", headers=HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(HERE / "static" / "docs.html", headers=HEADERS)

    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
