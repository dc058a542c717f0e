"""The playground by touch, by keyboard alone, on a phone, in the dark, with images of one's own, and from a link."""

import base64
import json
import shlex
import subprocess
import sys
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import PHONE, OpenPage, accessibility_faults
from tests.browser.playground_page import SAMPLES, open_playground

pytestmark = pytest.mark.server

PIXEL = "UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAwA0JaQAA3AA/vuUAAA="  # the smallest WebP

DROP = """([name, text]) => {
    const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, {type: "image/jpeg"}));
    return data;
}"""


def test_a_phone_draws_by_touch_and_nothing_is_wider_than_it(open_page: OpenPage) -> None:
    playground = open_playground(open_page, **PHONE)
    playground.touch((0.1, 0.1), (0.2, 0.3), (0.3, 0.45))
    playground.described()
    assert playground.cards.count() == 3
    assert playground.box() == pytest.approx([64, 42.7, 192, 192], abs=6)
    playground.tool("Points")
    playground.stage.tap(position={"x": 200, "y": 100})
    playground.described()
    assert playground.cards.count() == 4
    width = playground.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] == width[1] == PHONE["viewport"]["width"]
    expect(playground.page.locator("input[capture=environment]")).to_have_count(1)
    assert playground.page.get_by_text("Camera").is_visible()
    assert accessibility_faults(playground.page) == []


def test_the_keyboard_alone_draws_reads_and_removes(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    for _ in range(60):  # forwards from the top of the page to the image
        playground.keys("Tab")
        if playground.page.evaluate("document.activeElement.className").startswith("stage"):
            break
    else:
        raise AssertionError("the stage is never reached")
    playground.keys("Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Enter")
    playground.described()
    assert playground.box() == pytest.approx([320, 213.5, 384, 277.5], abs=1)
    playground.keys("Delete")
    assert playground.cards.count() == 2
    playground.keys("Control+z")
    playground.described()
    assert playground.cards.count() == 3
    playground.words.first.focus()
    expect(playground.page.locator(".support").first).to_contain_text("supported by")
    field = playground.page.locator(".coordinates input")
    field.fill("10, 20, 30")
    expect(playground.page.locator(".coordinates .error")).to_contain_text("There are 3 here.")
    field.fill("10, 20, 200, 220")
    playground.keys("Enter")
    playground.described()
    assert playground.box() == [10, 20, 200, 220]


def test_polygons_scribbles_and_points_by_keyboard(open_page: OpenPage) -> None:
    playground = open_playground(open_page, "/#sample=sand")
    playground.tool("Polygon")
    playground.stage.focus()
    playground.keys("Enter", "Shift+ArrowRight", "Enter", "Shift+ArrowDown", "Enter", "f")
    playground.described()
    assert playground.coordinates().count(";") == 2
    playground.tool("Scribble")
    playground.stage.focus()
    playground.keys("Enter", "Shift+ArrowLeft", "Shift+ArrowUp", "Enter")
    playground.described()
    playground.tool("Points")
    playground.stage.focus()
    playground.keys("Enter", "Shift+ArrowDown", "-")
    playground.described()
    assert "; −" in playground.coordinates()
    assert playground.cards.count() == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page: OpenPage, scheme: Any) -> None:
    playground = open_playground(open_page, color_scheme=scheme)
    dark = (
        playground.page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") == "rgb(14, 20, 27)"
    )
    assert dark == (scheme == "dark")
    assert accessibility_faults(playground.page) == []
    playground.page.get_by_label("Appearance").select_option("dark" if scheme == "light" else "light")
    assert accessibility_faults(playground.page) == []


def test_a_file_a_dropped_image_and_a_pasted_one(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    playground.open_file(SAMPLES / "two-dogs.jpg")
    expect(playground.page.locator(".status")).to_contain_text("426 × 640 pixels")
    assert playground.cards.count() == 0
    playground.drag((0.3, 0.22), (0.53, 0.43))
    playground.described()
    assert "dog" in playground.captions()[0]

    encoded = base64.b64encode((SAMPLES / "cocktail.jpg").read_bytes()).decode()
    dropped = playground.page.evaluate_handle(DROP, ["cocktail.jpg", encoded])
    playground.page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(playground.page.locator(".status")).to_contain_text("cocktail.jpg: 512 × 512")

    playground.page.evaluate(f"""([name, text]) => {{
        const clipboardData = ({DROP})([name, text]);
        window.dispatchEvent(new ClipboardEvent("paste", {{clipboardData}}));
    }}""", ["other.jpg", encoded])  # fmt: skip
    expect(playground.page.locator(".status")).to_contain_text("pasted image: 512 × 512")


def test_a_link_restores_the_settings_and_holds_no_image_and_no_key(open_page: OpenPage) -> None:
    playground = open_playground(open_page, permissions=["clipboard-read", "clipboard-write"])
    playground.page.locator("summary", has_text="How much").click()
    playground.page.get_by_label("Labels per list").fill("2")
    playground.page.locator("summary", has_text="Words").click()
    playground.page.get_by_label("Control words").fill("striped, red")
    playground.page.get_by_role("button", name="Sample: Sand").click()
    playground.described()
    playground.page.get_by_role("button", name="Copy link").click()
    expect(playground.page.locator(".status")).to_contain_text("link")
    link = playground.page.evaluate("navigator.clipboard.readText()")
    assert len(link) < 200
    restored = open_playground(open_page, link[link.index("/#") :])
    assert restored.page.locator(".card.chosen .labels-of").first.locator(".bar").count() == 2
    restored.page.locator("summary", has_text="Words").click()
    assert restored.page.get_by_label("Control words").input_value() == "striped, red"
    assert restored.page.get_by_role("button", name="Sample: Sand").get_attribute("aria-pressed") == "true"


def test_what_can_be_copied_gives_the_same_answer(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    code = playground.page.locator(".code")

    def shown(form: str) -> str:
        code.get_by_role("radio", name=form).check()
        return code.locator("textarea").input_value()

    answer = json.loads(shown("answer"))
    command = shlex.split(shown("curl").replace("\\\n", " "))
    told = json.loads(subprocess.run(command, cwd=SAMPLES, capture_output=True, check=True).stdout)
    assert [each["caption"] for each in told["regions"]] == [each["caption"] for each in answer["regions"]]
    assert json.loads(shown("request"))["regions"][0] == {"box": [308, 190, 401, 258]}
    ran = subprocess.run(
        [sys.executable, "-c", shown("Python")], cwd=SAMPLES, capture_output=True, text=True, check=True
    )
    assert [line.split(") ")[1] for line in ran.stdout.splitlines()] == [
        each["caption"]["text"] for each in told["regions"]
    ]


def test_what_was_found_can_be_copied_too(open_page: OpenPage) -> None:
    playground = open_playground(open_page, "/#sample=sand&findBy=names&names=umbrella,rocket")
    playground.page.get_by_role("button", name="Find and describe").click()
    expect(playground.page.locator(".status")).to_contain_text("found", timeout=60_000)
    code = playground.page.locator(".code")
    code.get_by_role("radio", name="Python").check()
    program = code.locator("textarea").input_value()
    assert "client.detect(" in program
    ran = subprocess.run([sys.executable, "-c", program], cwd=SAMPLES, capture_output=True, text=True, check=True)
    assert {line.split(" ")[0] for line in ran.stdout.splitlines()} == {"umbrella", "rocket"}


def test_an_image_that_the_service_fetches_is_shown_by_its_own_view(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    page = playground.page
    asked = []

    def fetched(route: Route) -> None:
        """As a service answers that may fetch it."""
        fields = route.request.post_data_json
        asked.append(fields)
        view = {"t": 1.0, "box": [0, 0, 400, 300], "hash": "", "distance": 0, "chosen": False, "thumbnail": PIXEL}
        region = {"id": "0", "box": [0, 0, 400, 300], "explanation": {"views": [view], "priors": []}}
        answer = {"id": "req_1", "model": "m", "image": {"width": 400, "height": 300}, "timings_ms": {"total": 1}}
        route.fulfill(json={**answer, "regions": [region for _ in fields["regions"]]})

    page.route("**/v1/describe", fetched)
    page.get_by_text("Address", exact=True).click()
    page.get_by_label("The service fetches it").fill("https://example.org/cat.jpg")
    page.get_by_role("button", name="Fetch").click()
    expect(page.locator(".status")).to_contain_text("the service's small view of the image")
    assert PIXEL in unquote(page.locator(".picture img").get_attribute("src") or "")
    playground.drag((0.1, 0.1), (0.6, 0.6))
    playground.settled()
    assert asked[-1]["image"] == {"url": "https://example.org/cat.jpg"}
    assert asked[-1]["regions"] == [{"box": pytest.approx([40, 30, 240, 180], abs=1)}]
