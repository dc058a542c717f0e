"""A conversation beside the image, with a service whose answers repeat the words of the question."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenPage, accessibility_faults
from tests.browser.playground_page import Playground, open_playground
from tests.service.client.scripted_events import event
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

DOUBTED = {
    "id": "req_1",
    "model": "scripted",
    "image": {"width": 640, "height": 427},
    "message": {
        "role": "assistant",
        "content": "🐕 A dog left of a mat.",
        "grounding": [
            {"span": [4, 7], "box": [20, 20, 200, 200], "probability": 0.75, "verified": True},
            {"span": [18, 21], "box": [300, 100, 600, 400], "verified": False},
        ],
    },
    "finish_reason": "length",
    "usage": {"completion_tokens": 9},
    "timings_ms": {"total": 2.0},
}


@pytest.fixture(scope="module")
def conversing() -> Iterator[Server]:
    """Answers two words at a time."""
    with running("tests.serve_fake", FAKE_PIECE_SECONDS="0.05") as server:
        server.await_ready()
        yield server


@pytest.fixture
def playground(open_page: OpenPage, conversing: Server) -> Playground:
    """With a sample, two of whose objects are regions."""
    return open_playground(open_page, server=conversing, allowed=("422", "503"))


def ask(page: Page, question: str) -> None:
    """Asks, and waits until the answer is whole."""
    page.get_by_role("textbox", name="Question").fill(question)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".turn .answer.waiting")).to_have_count(0)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()


def answers(page: Page) -> list[str]:
    return [each.removeprefix("Answer: ") for each in page.locator(".turn .answer").all_text_contents()]


def scripted(page: Page, *events: bytes) -> list[dict[str, Any]]:
    """Lets every question be answered with these events. What was asked, as it comes."""
    asked: list[dict[str, Any]] = []

    def fulfil(route: Route) -> None:
        body = route.request.post_data_buffer or b""
        start = body.index(b'{"messages"')
        asked.append(json.JSONDecoder().raw_decode(body[start:].decode())[0])
        route.fulfill(status=200, content_type="text/event-stream", body=b"".join(events))

    page.route("**/v1/converse", fulfil)
    return asked


def test_a_region_is_referred_to_and_the_words_of_the_answer_light_its_box(playground: Playground) -> None:
    page = playground.page
    question = page.get_by_role("textbox", name="Question")
    question.fill("a dog near ")
    page.get_by_role("button", name="Insert region 2 into the question").click()
    expect(question).to_have_value("a dog near <region:2>")
    expect(question).to_be_focused()
    page.keyboard.press("Enter")
    words = page.locator(".turn .word")
    expect(words).to_have_text(["dog", "2"])
    assert answers(page) == ["1: a dog near 2"]
    expect(page.locator(".turn .question")).to_have_text("You: a dog near region 2")
    assert page.locator(".spans .span").count() == 2

    words.first.focus()
    expect(page.locator(".spans .pointed")).to_have_attribute("data-span", "0")
    expect(page.locator(".spans .name-text")).to_have_text("dog")
    expect(page.locator(".turn .support")).to_contain_text("50 % sure")
    words.nth(1).hover()
    expect(page.locator(".spans .pointed")).to_have_attribute("data-span", "1")
    expect(page.locator(".turn .support")).to_contain_text("region 2")
    assert accessibility_faults(page) == []


def test_pointing_at_a_box_lights_its_words(playground: Playground) -> None:
    page = playground.page
    scripted(page, event("done", DOUBTED))
    ask(page, "What is there?")
    page.mouse.move(*playground.at((0.7, 0.6)))
    expect(page.locator(".word.pointed")).to_have_text("mat")
    page.mouse.move(*playground.at((0.1, 0.2)))
    expect(page.locator(".word.pointed")).to_have_text("dog")
    page.mouse.move(*playground.at((0.98, 0.98)))
    expect(page.locator(".word.pointed")).to_have_count(0)


def test_words_with_several_boxes_light_all_of_them(playground: Playground) -> None:
    page = playground.page
    boxes = [[20, 20, 200, 200], [300, 100, 600, 400]]
    message = {
        "role": "assistant",
        "content": "Two dogs.",
        "grounding": [{"span": [0, 8], "box": box} for box in boxes],
    }
    scripted(page, event("done", {**DOUBTED, "message": message}))
    ask(page, "What is there?")
    expect(page.locator(".spans .span")).to_have_count(2)
    page.locator(".turn .word").hover()
    expect(page.locator(".spans .span.pointed")).to_have_count(2)
    page.mouse.move(*playground.at((0.7, 0.6)))  # the second one
    expect(page.locator(".word.pointed")).to_have_text("Two dogs")


def test_a_box_that_is_not_verified_is_dashed_and_says_so(playground: Playground) -> None:
    page = playground.page
    scripted(page, event("delta", {"content": "🐕 A dog"}), event("done", DOUBTED))
    ask(page, "What is there?")
    assert answers(page) == ["🐕 A dog left of a mat. … (as long as was allowed)"]
    words = page.locator(".turn .word")
    expect(words).to_have_text(["dog", "mat"])
    dashes = [
        each.evaluate("each => getComputedStyle(each).strokeDasharray") for each in page.locator(".span .line").all()
    ]
    assert dashes[0] == "none" and dashes[1] != "none"
    assert "Not verified" in (words.nth(1).get_attribute("title") or "")
    expect(page.get_by_role("button", name="mat: not verified")).to_be_visible()
    words.nth(1).hover()
    expect(page.locator(".spans .name-text")).to_have_text("mat, not verified")
    expect(page.locator(".turn .support")).to_contain_text("the region model sees something else")
    words.first.hover()
    expect(page.locator(".turn .support")).to_contain_text("75 % sure. Verified")
    assert accessibility_faults(page) == []


def test_of_a_long_conversation_the_last_turns_are_sent(playground: Playground) -> None:
    page = playground.page
    asked = scripted(page, event("done", DOUBTED))
    for number in range(17):
        ask(page, f"question {number}")
    assert len(asked[15]["messages"]) == 31  # of 32 that the service takes
    messages = asked[16]["messages"]
    assert (len(messages), messages[0]["content"]) == (31, "question 1")
    assert len(answers(page)) == 17


def test_several_turns_then_anew(playground: Playground) -> None:
    page = playground.page
    ask(page, "a <region:1>")
    ask(page, "which cat")
    assert answers(page) == ["1: a 1", "3: which cat"]
    page.locator(".turn .word", has_text="1").hover()  # of the first turn: its boxes are shown
    expect(page.locator(".spans .span")).to_have_count(1)
    page.get_by_role("button", name="Remove region 1", exact=True).click()
    ask(page, "and now")  # what the first turn was about is still known
    assert answers(page)[-1] == "5: and now"
    page.get_by_role("button", name="Start anew").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator(".spans .span")).to_have_count(0)
    ask(page, "what")
    assert answers(page) == ["1: what"]
    page.get_by_role("button", name="Sample:").nth(1).click()
    expect(page.locator(".turn")).to_have_count(0)  # another image is another conversation


def test_what_is_asked(playground: Playground) -> None:
    page = playground.page
    asked = scripted(page, event("done", DOUBTED))
    page.get_by_text("Only these answers").click()
    page.get_by_role("textbox", name="Answers that are allowed").fill("yes, no")
    ask(page, "Is <region:2> red?")
    ask(page, "Why?")
    user = [{"role": "user", "content": "Is <region:2> red?"}]
    assert asked[0]["messages"] == user and asked[0]["answers"] == ["yes", "no"] and asked[0]["stream"]
    assert [each["id"] for each in asked[0]["regions"]] == ["2"] and len(asked[0]["regions"][0]["box"]) == 4
    said = {"role": "assistant", "content": DOUBTED["message"]["content"]}  # type: ignore[index]
    assert asked[1]["messages"] == [*user, said, {"role": "user", "content": "Why?"}]
    assert asked[1]["regions"] == asked[0]["regions"]


def test_allowed_answers_have_probabilities(playground: Playground) -> None:
    page = playground.page
    page.get_by_text("Only these answers").click()
    page.get_by_role("textbox", name="Answers that are allowed").fill("yes, no")
    ask(page, "Is it red?")
    assert answers(page) == ["yes"]
    expect(page.locator(".choices .bar")).to_have_text(["yes50 %", "no50 %"])


def test_an_answer_comes_in_pieces_and_can_be_stopped(open_page: OpenPage) -> None:
    with running("tests.serve_fake", FAKE_PIECE_SECONDS="0.7") as slow:
        slow.await_ready()
        page = open_playground(open_page, server=slow).page
        question = page.get_by_role("textbox", name="Question")
        question.fill("one two three four five six seven eight nine ten")
        page.keyboard.press("Enter")
        expect(page.locator(".turn .answer.waiting")).to_contain_text("one")
        page.get_by_role("button", name="Stop").last.click()
        expect(page.locator(".turn")).to_have_count(0)
        expect(question).to_have_value("one two three four five six seven eight nine ten")


def test_what_is_refused_says_why_and_the_question_can_be_mended(playground: Playground) -> None:
    page = playground.page
    question = page.get_by_role("textbox", name="Question")
    question.fill("What is <region:9>?")
    page.keyboard.press("Enter")
    expect(page.locator(".ask .error")).to_contain_text("refers to a region that 'regions' does not have")
    expect(question).to_have_value("What is <region:9>?")
    assert accessibility_faults(page) == []
    ask(page, "What is it?")
    expect(page.locator(".ask .error")).to_have_count(0)


def test_an_answer_that_fails_on_the_way(playground: Playground) -> None:
    page = playground.page
    late = {"type": "urn:a", "title": "Too late", "status": 504, "detail": "The deadline passed."}
    delta = event("delta", {"content": "A"})
    for events, sentence in [((delta, event("error", late)), "The deadline passed."), ((delta,), "broke off")]:
        page.unroute("**/v1/converse")
        scripted(page, *events)
        page.get_by_role("textbox", name="Question").fill("What?")
        page.keyboard.press("Enter")
        expect(page.locator(".ask .error")).to_contain_text(sentence)
        expect(page.locator(".turn")).to_have_count(0)


def test_in_the_dark(playground: Playground) -> None:
    page = playground.page
    page.get_by_label("Appearance").select_option("dark")
    scripted(page, event("done", DOUBTED))
    ask(page, "What is <region:1>?")
    page.locator(".turn .word").first.hover()
    assert accessibility_faults(page) == []


def test_a_service_without_a_converser_says_so(open_page: OpenPage) -> None:
    with running("tests.serve_fake") as server:
        server.await_ready()
        page = open_playground(open_page, server=server).page
        expect(page.locator(".conversation")).to_contain_text("This service answers no questions")
        expect(page.get_by_role("textbox", name="Question")).to_have_count(0)
        assert accessibility_faults(page) == []
