"""/docs and /redoc in a browser: every kind of request is sent by clicking, and answered by the embedded model."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, OpenPage, accessibility_faults
from tests.service.api.example_requests import OPEN_GETS, POSTS
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

KEY = "sesame"


@pytest.fixture(scope="module")
def locked_server() -> Iterator[Server]:
    """A service around the fake predictor, which asks for a key."""
    with running("tests.serve_fake", DYNREFER_API_KEYS=KEY) as server:
        server.await_ready()
        yield server


def operation(page: Page, method: str, path: str) -> Locator:
    """An operation's block, opened and ready to be tried."""
    block = page.locator(".opblock").filter(has=page.locator(f'[data-path="{path}"]')).filter(has_text=method)
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    return block


def execute(block: Locator) -> tuple[int, Any]:
    """Press Execute; the status and the body that the page shows."""
    page = block.page
    with page.expect_response(lambda response: "/static/" not in response.url) as waiting:
        block.locator("button.execute").click()
    answer = waiting.value
    shown = block.locator(".live-responses-table tbody .response-col_status").first
    expect(shown).to_contain_text(str(answer.status))
    expect(block.locator("button.execute")).to_be_enabled()
    text = answer.text()
    return answer.status, json.loads(text) if "json" in answer.headers["content-type"] else text


def operation_title(page: Page) -> Locator:
    """Of the first operation, on either page."""
    return page.get_by_text("Describe regions of an image").and_(page.locator("h2, .opblock-summary-description"))


def choose_body(block: Locator, media: str) -> None:
    block.get_by_label("Request content type").select_option(media)


@pytest.mark.parametrize("path", ["/v1/describe", "/v1/detect"])
def test_every_json_example_is_answered_with_one_click(open_page: OpenPage, path: str) -> None:
    block = operation(open_page("/docs"), "POST", path)
    examples = block.locator(".opblock-section-request-body .examples-select-element")
    names = [name for name, each in POSTS[f"POST {path}"].items() if each.media == "application/json"]
    assert [option.get_attribute("value") for option in examples.locator("option").all()] == names
    for name in names:
        examples.select_option(name)
        status, answer = execute(block)
        assert status == 200 and (answer.get("regions") or answer["images"]), name


@pytest.mark.parametrize("path", ["/v1/describe", "/v1/detect"])
@pytest.mark.parametrize("media", ["multipart/form-data", "image/*"])
def test_the_sample_stands_in_for_a_file_that_was_not_chosen(open_page: OpenPage, path: str, media: str) -> None:
    block = operation(open_page("/docs"), "POST", path)
    choose_body(block, media)
    status, answer = execute(block)
    assert status == 200
    assert answer["image"] == {"width": 221, "height": 231}
    assert len(answer["regions"]) == (2 if media == "multipart/form-data" else 1)  # as the examples ask
    expect(block.locator(".curl-command")).to_contain_text("scene.webp")


@pytest.mark.parametrize("media", ["multipart/form-data", "image/*"])
def test_a_file_that_was_chosen_is_sent(open_page: OpenPage, media: str) -> None:
    block = operation(open_page("/docs"), "POST", "/v1/describe")
    choose_body(block, media)
    file = io.BytesIO()
    Image.new("RGB", (300, 260), "green").save(file, "PNG")
    block.locator("input[type=file]").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    status, answer = execute(block)
    assert status == 200 and answer["image"] == {"width": 300, "height": 260}


def test_what_is_wrong_is_said_by_the_service(open_page: OpenPage) -> None:
    block = operation(open_page("/docs", allowed=("status of 422",)), "POST", "/v1/describe")
    body = block.locator("textarea.body-param__text")
    body.fill(body.input_value().replace('"two-tasks"', "").replace("[\n        41,", "[\n        4100,"))
    status, problem = execute(block)
    assert status == 422 and problem["errors"][0]["pointer"] == "/regions/0/box"
    expect(block.locator(".live-responses-table .highlight-code").first).to_contain_text(problem["errors"][0]["detail"])


def test_what_can_be_got_is_got_with_one_click(open_page: OpenPage) -> None:
    page = open_page("/docs")
    for operation_name in OPEN_GETS:
        assert execute(operation(page, *operation_name.split()))[0] == 200, operation_name


def test_errors_are_shown_by_their_kinds(open_page: OpenPage) -> None:
    block = operation(open_page("/docs"), "POST", "/v1/describe")
    rows = block.locator("tr.response[data-code='422'], tr.response[data-code='413']")
    for index, kinds in enumerate(({"body-too-large", "image-too-large"}, {"invalid-request", "image-too-costly"})):
        options = rows.nth(index).locator(".examples-select-element option").all()
        assert {option.get_attribute("value") for option in options} == kinds


def test_a_key_is_entered_in_the_page(open_page: OpenPage, locked_server: Server) -> None:
    page = open_page("/docs", server=locked_server, allowed=("status of 401",))
    block = operation(page, "GET", "/v1/models")
    assert execute(block)[0] == 401
    page.get_by_role("button", name="Authorize", exact=True).click()
    dialogue = page.locator(".dialog-ux")
    dialogue.locator("input").fill(KEY)
    dialogue.get_by_role("button", name="Apply credentials").click()
    dialogue.get_by_role("button", name="Close", exact=True).click()
    status, cards = execute(block)
    assert status == 200 and cards["models"][0]["name"] == "fake"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_open_behind_keys(open_page: OpenPage, locked_server: Server, path: str) -> None:
    page = open_page(path, server=locked_server)
    expect(operation_title(page)).to_be_visible()


def test_redoc_shows_every_operation_and_finds_words(open_page: OpenPage) -> None:
    page = open_page("/redoc")
    for summary in ("Describe regions of an image", "Find regions of an image", "The loaded model"):
        expect(page.get_by_role("heading", name=summary)).to_be_visible()
    expect(page.get_by_text("a large red dotted snowman").first).to_be_attached()
    page.get_by_placeholder("Search...").fill("vocabulary")
    expect(page.locator("[data-role='search:results'] li").first).to_be_visible()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_fit_a_phone(open_page: OpenPage, path: str) -> None:
    page = open_page(path, **PHONE)
    expect(operation_title(page)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]  # type: ignore[index]


# Faults of the readers that neither an option nor a style of ours can mend.
THEIRS = {
    "/docs": ("nested-interactive",),  # a link in the button that opens an operation
    "/redoc": ("scrollable-region-focusable",),  # a sample of plain text
}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_accessibility(open_page: OpenPage, path: str) -> None:
    page = open_page(path)
    expect(operation_title(page)).to_be_visible()
    if path == "/docs":
        execute(operation(page, "POST", "/v1/describe"))
    assert [each for each in accessibility_faults(page) if not each.startswith(THEIRS[path])] == []
