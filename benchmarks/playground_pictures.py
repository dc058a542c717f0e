"""`python -m benchmarks.playground_pictures`: the pictures of the playground in docs/images, from Debian's chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.playground import CHROMIUM
from tests.browser.conftest import FLAGS, PHONE
from tests.browser.playground_page import Playground
from tests.repository import ROOT
from tests.service.server.test_process import Server, running

IMAGES = ROOT / "docs" / "images"
DESK = {"viewport": {"width": 1280, "height": 900}}
LOW = {"viewport": {"width": 1100, "height": 560}}
QUALITY = 82


def look(playground: Playground) -> None:
    """As the page opens."""


def why(playground: Playground) -> None:
    """A word is pointed at: the rest of the image goes dark around the view that carried it."""
    playground.words.get_by_text("left of", exact=True).first.hover()


def find(playground: Playground) -> None:
    """Everything found, with masks."""
    playground.page.locator(".find").get_by_role("combobox").select_option("names")
    playground.page.locator(".find").get_by_role("textbox").fill("rocket, umbrella, donut, zebra")
    playground.page.get_by_role("button", name="Find and describe").click()
    playground.described()


def converse(playground: Playground) -> None:
    """Two questions; the words of the second answer light their boxes."""
    for question in ("What colour is <region:1>?", "List all objects."):
        playground.page.get_by_role("textbox", name="Question").fill(question)
        playground.page.get_by_role("button", name="Ask").click()
        expect(playground.page.locator(".turn .answer.waiting")).to_have_count(0)
        expect(playground.page.get_by_role("button", name="Ask")).to_be_visible()
    playground.page.locator(".turn .answer").last.scroll_into_view_if_needed()


def picture(
    browser: Browser, server: Server, name: str, path: str, do: Callable[[Playground], None], **kind: Any
) -> Path:
    """Open the page, do something, and keep what is seen."""
    context = browser.new_context(**{"locale": "en-GB", **kind})
    page = context.new_page()
    page.goto(server.address + path)
    playground = Playground(page).described()
    page.locator(".word").first.wait_for()
    do(playground)
    page.wait_for_timeout(300)
    file = IMAGES / name
    page.screenshot(path=file, type="jpeg", quality=QUALITY)
    context.close()
    return file


def main() -> None:
    """Take all five."""
    with running("dynrefer.service.cli", "serve") as server, sync_playwright() as playwright:
        server.await_ready()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        dark = {**DESK, "color_scheme": "dark"}
        for file in (
            picture(browser, server, "playground.jpg", "/", look, **DESK),
            picture(browser, server, "playground-why.jpg", "/#sample=sand", why, **dark),
            picture(browser, server, "playground-found.jpg", "/#sample=sand", find, **DESK),
            picture(browser, server, "playground-phone.jpg", "/", look, **PHONE),
            picture(browser, server, "playground-ask.jpg", "/#sample=sand", converse, **LOW),
        ):
            print(file.name, file.stat().st_size)
        browser.close()


if __name__ == "__main__":
    main()
