"""The documentation site in a browser: from its folder and served, in light, in the dark, on a phone."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, OpenPage, accessibility_faults
from tests.docs.site import build_site

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """Where the site is, as `OpenPage` takes a server's."""

    address: str


@pytest.fixture(scope="module")
def folder() -> Place:
    return Place(build_site().as_uri())


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def served() -> Iterator[Place]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(build_site()))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Place(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_the_folder_leads_to_the_start_page(open_page: OpenPage, folder: Place) -> None:
    page = open_page("/index.html", server=folder)
    page.wait_for_url("**/docs/index.html")
    expect(page.get_by_role("heading", level=1)).to_contain_text("DynRefer service")
    page.get_by_role("link", name="Quick start").first.click()
    page.wait_for_url("**/quick-start.html")


def test_search_finds_a_page_without_a_server(open_page: OpenPage, folder: Place) -> None:
    page = open_page("/docs/index.html", server=folder)
    page.get_by_role("textbox", name="Search").first.fill("perceptual hash")
    page.keyboard.press("Enter")
    found = page.locator("#search-results").get_by_role("link", name="How views work")
    expect(found).to_be_visible()
    found.click()
    page.wait_for_url("**/views.html*")


@pytest.mark.parametrize("name", ["index", "views", "requests", "python"])
@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"]
)
def test_pages_are_readable(open_page: OpenPage, served: Place, name: str, options: dict[str, Any]) -> None:
    page = open_page(f"/docs/{name}.html", server=served, **options)
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not page.evaluate("[...document.images].filter((each) => each.complete && !each.naturalWidth).length")
    assert accessibility_faults(page) == []
