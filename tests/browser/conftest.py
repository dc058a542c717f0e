"""A real browser, Debian's chromium, in front of a real service with the embedded model.

A page of these fixtures fails its test for any error in its console and for any request to another host.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.service.server.test_process import Server, running

# No accelerator, no sandbox of its own (tests may run as root, in a container), no traffic but the pages'.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
SERIOUS = ("serious", "critical")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the browser, and is skipped with its Debian package's name where it is missing."""
    missing = shutil.which("chromium") is None
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.skipif(missing, reason="needs chromium: apt-get install chromium"))


@dataclass
class Watch:
    """What went on in a page. allowed: parts of console messages that a test provokes, such as a refused request's."""

    address: str
    allowed: tuple[str, ...] = ()
    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def listen_to(self, page: Page) -> None:
        """Collect from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.console.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.address).netloc:
            self.outside.append(request.url)

    def check(self) -> None:
        """Raises AssertionError for an error that no test provoked, and for a request to another host."""
        assert not [each for each in self.console if not any(part in each for part in self.allowed)]
        assert not self.outside


class OpenPage(Protocol):
    """open_page("/docs", allowed=("401",), **options of playwright's new_context) -> a page that is watched."""

    def __call__(
        self, path: str = "/", *, server: Server | None = None, allowed: tuple[str, ...] = (), **options: Any
    ) -> Page:
        """server: the embedded one by default."""


# Not of the session: while Playwright runs, an event loop does, and other tests could start none.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file; every page has a context of its own."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    """A ready service with the embedded model."""
    with running("dynrefer.service.cli", "serve") as server:
        server.await_ready()
        yield server


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Opens pages, and checks at the end of the test what went on in them."""
    watches, pages = [], []
    with ExitStack() as stack:

        def open_it(
            path: str = "/", *, server: Server | None = None, allowed: tuple[str, ...] = (), **options: Any
        ) -> Page:
            server = server or request.getfixturevalue("embedded_server")
            context = stack.enter_context(browser.new_context(**options))
            context.set_default_timeout(30_000)
            page = context.new_page()
            pages.append(page)
            watches.append(watch := Watch(server.address, allowed))
            watch.listen_to(page)
            page.goto(server.address + path)
            return page

        yield open_it
        for page in pages:  # a request that is being answered by a test's own handler fails when its page closes
            page.unroute_all(behavior="ignoreErrors")
    for watch in watches:
        watch.check()


# Settled when every transition that ends by itself has ended; what runs for ever, such as a spinner, is not waited for.
REST = """() => Promise.allSettled(document.getAnimations()
    .filter(each => each.effect.getComputedTiming().endTime !== Infinity)
    .map(each => each.finished))"""


def accessibility_faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page at rest, with the elements concerned.

    Half-way through a transition a colour has a contrast that nobody is shown for long.
    """
    page.evaluate(REST)
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in SERIOUS
    ]
