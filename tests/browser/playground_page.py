"""The playground as its user meets it: regions drawn on the stage, cards beside it."""

from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from dynrefer.service.playground import HERE
from tests.browser.conftest import OpenPage
from tests.service.server.test_process import Server

SAMPLES = HERE / "static" / "samples"
PATIENCE_MS = 60_000  # an answer of a busy machine

Fraction = tuple[float, float]  # x, y of a place on the stage, each 0 to 1


class Playground:
    """Steps of a user, each ending when the page has settled. Raises AssertionError where it does not."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stage = page.locator(".stage")
        self.cards = page.locator(".card")
        self.words = page.locator(".word")
        self.errors = page.locator(".error:visible, .problem:visible")

    def settled(self) -> "Playground":
        """Wait until nothing is asked any more and every region has its answer."""
        self.page.wait_for_timeout(200)  # describing begins a moment after the last change
        expect(self.page.locator(".status.busy")).to_have_count(0, timeout=PATIENCE_MS)
        return self

    def described(self) -> "Playground":
        """Wait until every region has an answer."""
        self.settled()
        expect(self.page.locator(".caption.waiting")).to_have_count(0, timeout=PATIENCE_MS)
        return self

    def captions(self) -> list[str]:
        """The captions of all regions, in order."""
        return [text.strip() for text in self.cards.locator("p.caption").all_inner_texts()]

    def coordinates(self) -> str:
        """The numbers of the selected region."""
        return self.page.locator(".coordinates input").input_value()

    def box(self) -> list[float]:
        """The selected region's box."""
        return [float(value) for value in self.coordinates().split(",")]

    def tool(self, name: str) -> None:
        """Choose what to draw with."""
        self.page.get_by_role("radio", name=name).check()

    def at(self, place: Fraction) -> tuple[float, float]:
        """A place on the stage, in pixels of the window."""
        self.stage.scroll_into_view_if_needed()
        frame = self.stage.bounding_box()
        assert frame is not None
        return frame["x"] + place[0] * frame["width"], frame["y"] + place[1] * frame["height"]

    def drag(self, *places: Fraction) -> None:
        """Press at the first place, move through the others, and let go."""
        self.page.mouse.move(*self.at(places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(place), steps=5)
        self.page.mouse.up()

    def click(self, place: Fraction) -> None:
        """One slow click, so that two are no double click."""
        self.page.mouse.click(*self.at(place))
        self.page.wait_for_timeout(350)

    def keys(self, *names: str) -> None:
        """Press keys, one after the other."""
        for name in names:
            self.page.keyboard.press(name)

    def touch(self, *places: Fraction) -> None:
        """Drag with one finger."""
        session = self.page.context.new_cdp_session(self.page)
        for index, place in enumerate(places):
            x, y = self.at(place)
            kind = "touchMove" if index else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def open_file(self, path: Path) -> None:
        """Choose a file of one's own."""
        self.page.locator(".own input[type=file]").first.set_input_files(path)


def open_playground(
    open_page: OpenPage,
    path: str = "/",
    *,
    allowed: Sequence[str] = (),
    server: Server | None = None,
    **options: object,
) -> Playground:
    """The page with its sample described."""
    return Playground(open_page(path, server=server, allowed=tuple(allowed), **options)).described()


def overlapping(labels: Locator) -> list[tuple[str, str]]:
    """Pairs of labels of which one covers a part of the other."""
    found = []
    boxes = [(label.inner_text(), label.bounding_box()) for label in labels.all()]
    for index, (text, one) in enumerate(boxes):
        for other_text, other in boxes[:index]:
            assert one is not None and other is not None
            apart = (
                one["x"] + one["width"] <= other["x"]
                or other["x"] + other["width"] <= one["x"]
                or one["y"] + one["height"] <= other["y"]
                or other["y"] + other["height"] <= one["y"]
            )
            if not apart:
                found.append((text, other_text))
    return found
