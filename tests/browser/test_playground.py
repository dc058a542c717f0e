"""The playground: samples, drawing, editing, finding, and why a region is described as it is."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage, accessibility_faults
from tests.browser.playground_page import SAMPLES, open_playground, overlapping

pytestmark = pytest.mark.server


def test_opens_with_a_sample_described_and_its_credit(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    assert "a black cell phone" in playground.captions()
    expect(playground.page.locator(".credit")).to_have_text("Photograph: rawpixel.com, CC0-1.0")
    expect(playground.page.locator(".model summary")).to_contain_text("dynrefer-embedded")
    playground.page.locator(".model summary").click()
    expect(playground.page.locator(".model")).to_contain_text("synthetic scenes")
    assert accessibility_faults(playground.page) == []


@pytest.mark.parametrize("sample", json.loads((SAMPLES / "samples.json").read_text()), ids=lambda each: each["id"])
def test_every_sample_is_one_click_away(open_page: OpenPage, sample: dict[str, Any]) -> None:
    playground = open_playground(open_page)
    playground.page.get_by_role("button", name=f"Sample: {sample['title']}").click()
    playground.described()
    assert len(playground.captions()) == len(sample["regions"]) > 0
    expect(playground.page.locator(".credit")).to_contain_text(sample["licence"])
    image = playground.page.locator(".picture img")
    assert image.get_attribute("alt") == sample["alt"]
    assert image.evaluate("each => [each.naturalWidth, each.naturalHeight]") == [sample["width"], sample["height"]]


def test_a_box_drawn_with_the_mouse_is_described_moved_and_taken_back(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    playground.drag((0.1, 0.1), (0.3, 0.4))
    playground.described()
    assert playground.cards.count() == 3
    assert playground.box() == pytest.approx([64, 42.7, 192, 170.8], abs=2)

    playground.drag((0.3, 0.4), (0.35, 0.5))  # its corner
    playground.described()
    assert playground.box() == pytest.approx([64, 42.7, 224, 213.5], abs=3)

    playground.keys("Control+z")
    playground.described()
    assert playground.box() == pytest.approx([64, 42.7, 192, 170.8], abs=2)
    playground.keys("Control+z")
    assert playground.cards.count() == 2
    playground.keys("Control+y")
    playground.described()
    assert playground.cards.count() == 3


def test_the_next_box_can_be_drawn_at_once_also_over_another(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    playground.drag((0.66, 0.66), (0.8, 0.9))
    playground.drag((0.05, 0.55), (0.2, 0.8))
    playground.described()
    assert len(playground.captions()) == 4
    assert overlapping(playground.page.locator(".label")) == []


def test_a_polygon_a_scribble_and_points(open_page: OpenPage) -> None:
    playground = open_playground(open_page, "/#sample=sand")
    playground.tool("Polygon")
    for place in ((0.1, 0.55), (0.3, 0.55), (0.3, 0.8), (0.1, 0.8), (0.1, 0.55)):
        playground.click(place)
    playground.described()
    assert playground.coordinates().count(";") == 3

    playground.tool("Scribble")
    playground.drag((0.55, 0.3), (0.7, 0.1), (0.8, 0.05))
    playground.described()
    assert playground.coordinates().count(";") > 3

    playground.tool("Points")
    playground.click((0.2, 0.62))
    playground.described()
    playground.page.get_by_role("radio", name="− not it").check()
    playground.click((0.5, 0.9))
    playground.described()
    assert playground.coordinates().startswith("+") and "; −" in playground.coordinates()
    assert playground.page.locator("canvas.overlay").is_visible()  # its mask
    assert len(playground.captions()) == 6
    assert accessibility_faults(playground.page) == []


def test_a_word_shows_what_supports_it(open_page: OpenPage) -> None:
    playground = open_playground(open_page, "/#sample=sand")
    playground.words.get_by_text("left of", exact=True).first.hover()
    expect(playground.page.locator(".support").first).to_contain_text("supported by tags “left of”, score")
    expect(playground.page.locator(".support").first).to_contain_text("without it the log odds fall by")
    assert playground.page.locator(".view.pointed").get_attribute("data-t") == "0.2"
    expect(playground.page.locator(".strip button[aria-pressed=true]")).to_have_count(1)
    playground.page.mouse.move(0, 0)
    playground.words.get_by_text("umbrella").focus()
    expect(playground.page.locator(".support").first).to_contain_text("umbrella")


def test_views_are_nested_frames_and_candidates_with_gain_and_distance(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    strip = playground.page.locator(".strip button")
    expect(strip).to_have_count(11)
    expect(playground.page.locator(".strip button.chosen")).to_have_count(3)
    expect(playground.page.locator(".views .view")).to_have_count(2)  # the third is the region itself
    assert playground.page.locator(".strip img.thumbnail").count() == 11
    spoken = strip.nth(1).get_attribute("aria-label") or ""
    assert "t = 0.1" in spoken and "gain" in spoken and "chosen" in spoken
    strip.nth(10).focus()
    expect(playground.page.locator(".spotlight")).to_have_count(1)


@pytest.mark.parametrize(
    ("by", "asked", "found"),
    [("names", "umbrella, rocket, zebra", 2), ("phrase", "the red rocket", 1), ("nothing", "", 3)],
)
def test_regions_are_found_and_described(open_page: OpenPage, by: str, asked: str, found: int) -> None:
    playground = open_playground(open_page, "/#sample=sand")
    find = playground.page.locator(".find")
    find.get_by_role("combobox").select_option(by)
    if asked:
        find.get_by_role("textbox").fill(asked)
    find.get_by_role("button", name="Find and describe").click()
    expect(playground.page.locator(".status")).to_contain_text("found", timeout=60_000)
    playground.described()
    assert playground.cards.count() >= found
    assert overlapping(playground.page.locator(".label")) == []
    expect(playground.cards.first).to_contain_text("score")
    if by == "names":
        expect(find).to_contain_text("Probably not shown: zebra")


def test_probabilities_are_bars(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    bars = playground.page.locator(".card.chosen .bar")
    assert bars.count() >= 5
    text = bars.first.locator(".number").inner_text()
    width = float(bars.first.locator(".fill").get_attribute("width") or 0)
    assert round(width) == int(text.removesuffix(" %"))


def test_own_words_and_thresholds_change_the_answer(open_page: OpenPage) -> None:
    playground = open_playground(open_page)
    playground.page.locator("summary", has_text="Words").click()
    playground.page.get_by_label("Vocabulary").select_option("own")
    playground.page.get_by_label("categories, separated by commas").fill("telephone, dog, blorf")
    playground.page.get_by_role("button", name="Describe again").click()
    playground.described()
    expect(playground.page.locator(".card.chosen .labels-of").first).to_contain_text("telephone")
    expect(playground.page.locator(".results")).to_contain_text("knows nothing of “blorf”")


def test_only_the_chosen_tasks(open_page: OpenPage) -> None:
    playground = open_playground(open_page, "/#views=task&tasks=caption,tags")
    lists = playground.page.locator(".card.chosen .labels-of h3")
    assert lists.all_inner_texts() == ["Tags"]
    expect(playground.page.locator(".views-panel")).to_contain_text("For caption: t 0, 0.2, 1, fixed by the task.")
