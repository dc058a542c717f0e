"""What the playground says when the service refuses, is loading, or is gone."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import OpenPage, accessibility_faults
from tests.browser.playground_page import Playground, open_playground
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

REFUSED = "Failed to load resource"


@pytest.fixture(scope="module")
def locked_server() -> Iterator[Server]:
    """The embedded model behind a key."""
    with running("dynrefer.service.cli", "serve", DYNREFER_API_KEYS="sesame") as server:
        server.await_ready()
        yield server


def test_a_region_that_is_not_valid_says_so_on_its_card(open_page: OpenPage) -> None:
    playground = open_playground(open_page, allowed=[REFUSED])
    field = playground.page.locator(".coordinates input")
    field.fill("700, 10, 800, 40")
    playground.keys("Enter")
    playground.settled()
    expect(playground.page.locator(".card.chosen .error")).to_contain_text("covers nothing of the image of 640 x 427")
    expect(playground.page.locator(".card").nth(1).locator(".error")).to_have_count(0)
    assert accessibility_faults(playground.page) == []
    playground.keys("Control+z")
    field.blur()
    playground.stage.focus()
    playground.keys("Control+z")
    playground.described()
    expect(playground.page.locator(".error")).to_have_count(0)


def test_a_setting_that_is_not_valid_says_so_at_its_field(open_page: OpenPage) -> None:
    page = open_page("/#vocabulary=own&words.attributes=brown", allowed=(REFUSED,))
    playground = Playground(page).settled()
    group = playground.page.locator(".settings details", has_text="Vocabulary")
    assert group.get_attribute("open") is not None
    attributes = group.locator("label", has_text="attributes, separated by commas")
    expect(attributes.locator(".error")).to_be_visible()
    expect(playground.page.locator(".problem")).to_contain_text("marked at its place")


def test_a_name_that_is_not_valid_says_so_where_regions_are_found(open_page: OpenPage) -> None:
    playground = open_playground(open_page, f"/#findBy=names&names={'x' * 200}", allowed=[REFUSED])
    playground.page.get_by_role("button", name="Find and describe").click()
    playground.settled()
    expect(playground.page.locator(".find .error")).to_have_count(1)
    assert playground.cards.count() == 2  # what was there stays


def test_a_file_that_is_no_image(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    playground.page.locator(".own input[type=file]").first.set_input_files(
        {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"not an image"}
    )
    expect(playground.page.locator(".sources .error")).to_contain_text('cannot show "notes.jpg"')
    assert playground.cards.count() == 2


def test_an_address_that_the_service_may_not_fetch(open_page: OpenPage) -> None:
    playground = open_playground(open_page, allowed=[REFUSED])
    playground.page.get_by_text("Address", exact=True).click()
    playground.page.get_by_label("The service fetches it").fill("https://example.org/cat.jpg")
    playground.page.get_by_role("button", name="Fetch").click()
    expect(playground.page.locator(".sources .error")).to_be_visible()


def test_a_key_is_asked_for_and_kept_in_the_tab(open_page: OpenPage, locked_server: Server) -> None:
    page = open_page("/", server=locked_server, allowed=("401",))
    playground = Playground(page)
    expect(page.locator(".key .error")).to_have_text("This service asks for a key.")
    assert page.evaluate("document.activeElement.type") == "password"
    assert page.locator(".picture img").is_visible()  # the page and its samples are open
    assert accessibility_faults(page) == []
    page.keyboard.type("open")
    page.keyboard.press("Enter")
    expect(page.locator(".key .error")).to_have_text("The service does not know this key.")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    playground.described()
    assert "a black cell phone" in playground.captions()
    expect(page.locator(".model summary")).to_contain_text("dynrefer-embedded")
    assert "sesame" not in page.url
    page.reload()
    playground.described()
    assert "a black cell phone" in playground.captions()


def test_a_service_that_loads_is_asked_again_when_it_says(open_page: OpenPage) -> None:
    page = open_page("/livez", allowed=(REFUSED,))
    problem = {"title": "The service is not available", "status": 503, "detail": "The service is loading."}
    answers = 0

    def refuse_twice(route: Route) -> None:
        nonlocal answers
        answers += 1
        if answers > 2:
            route.continue_()
            return
        headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=json.dumps(problem))

    page.route("**/v1/describe", refuse_twice)
    page.goto(page.url.removesuffix("livez"))
    expect(page.locator(".status")).to_contain_text("The service is loading. Trying again in 1 s.")
    assert "a black cell phone" in Playground(page).described().captions()
    assert answers == 3


def test_a_service_that_is_gone(open_page: OpenPage) -> None:
    playground = open_playground(open_page, allowed=[REFUSED])
    playground.page.route("**/v1/**", lambda route: route.abort())
    playground.page.get_by_role("button", name="Describe", exact=True).click()
    expect(playground.page.locator(".problem")).to_contain_text("The service did not respond.")


def test_without_a_finder_and_without_points_nothing_of_them_is_offered(open_page: OpenPage) -> None:
    page = open_page("/livez")

    def fewer(route: Route) -> None:
        response = route.fetch()
        card = response.json()
        card["models"][0]["capabilities"] = {"prompts": ["box", "mask"], "detection": False, "masks": False}
        route.fulfill(response=response, json=card)

    page.route("**/v1/models", fewer)
    page.goto(page.url.removesuffix("livez"))
    Playground(page).described()
    expect(page.locator(".find")).to_have_count(0)
    assert page.locator(".toolbar input[name=tool]").evaluate_all("each => each.map((one) => one.value)") == [
        "box",
        "select",
    ]
