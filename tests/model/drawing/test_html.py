"""Results in notebooks: one piece of well-formed HTML that loads nothing and runs nothing, whatever the words are."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from dynrefer.model.described import Descriptions
from dynrefer.model.drawing.html import LONGEST, MOST_ROWS
from dynrefer.model.drawing.palette import COLOURS
from dynrefer.model.finding import AbsentName, Findings, FoundRegion
from dynrefer.model.preview import Preview
from dynrefer.model.types import RegionDescription
from tests.model.test_described import BOXES, SCENE, described

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


class Page(HTMLParser):
    """Elements, their attributes, and text; raises where elements are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == "img"]


def regions(*texts: str) -> list[RegionDescription]:
    return [described(BOXES[0], text) for text in texts]


def shown(regions: list[RegionDescription], path: Path = SCENE, size: tuple[int, int] = (221, 231)) -> Page:
    with Image.open(SCENE) as image:
        size = image.size if path == SCENE else size
    return Page(Descriptions(regions, Preview.of(path, size))._repr_html_())


def test_the_picture_is_part_of_the_document() -> None:
    page = shown(regions("a snowman", "a pig"))
    (image,) = page.images()
    kind, _, data = (image["src"] or "").partition(",")
    assert kind == "data:image/jpeg;base64"
    drawn = Image.open(io.BytesIO(base64.b64decode(data)))
    assert drawn.format == "JPEG" and max(drawn.size) <= LONGEST
    assert image["alt"] == "0: a snowman; 1: a pig"


def test_the_table_says_what_was_described() -> None:
    page = shown(regions("a snowman", "a pig"))
    assert [tag for tag, _ in page.elements].count("tr") == 3
    assert re.sub(r"\s+", " ", page.text) == "captiontags0a snowman .75a snowman .901a pig .75a pig .90"


@pytest.mark.parametrize("make", ["regions", "one", "findings", "found"])
def test_words_are_words(make: str) -> None:
    region = described(BOXES[0], EVIL)
    found = FoundRegion(BOXES[0], EVIL, 0.5, 0.5, 0, description=region)
    html = {
        "regions": Descriptions([region], Preview.of(SCENE, Image.open(SCENE).size))._repr_html_,
        "one": region._repr_html_,
        "findings": Findings((found,), (AbsentName(EVIL, 0.1),))._repr_html_,
        "found": found._repr_html_,
    }[make]()
    page = Page(html)
    assert EVIL in page.text
    assert {tag for tag, _ in page.elements} <= {"div", "img", "table", "tr", "th", "td", "span", "p"}
    for _, attributes in page.elements:
        assert set(attributes) <= {"style", "alt", "src", "scope", "dir"}
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "url(" not in (attributes.get("style") or "")


def test_a_dark_notebook_is_legible() -> None:
    """Text and background are the notebook's; only a number has both of its own."""
    for _, attributes in shown(regions("a")).elements:
        style = dict(part.split(":", 1) for part in (attributes.get("style") or "").split(";") if part)
        background, colour = style.get("background", "transparent"), style.get("color", "inherit")
        own = background not in ("transparent",) and "currentColor" not in background
        assert own == (colour != "inherit")


def test_numbers_have_their_regions_colours() -> None:
    chips = [attributes.get("style") or "" for tag, attributes in shown(regions("a", "b")).elements if tag == "span"]
    assert any(f"background:{COLOURS[1]}" in style for style in chips)


def test_a_long_list_is_cut_and_an_empty_one_says_so() -> None:
    many = Page(Descriptions(regions(*"a" * (MOST_ROWS + 20)))._repr_html_())
    assert "and 20 more regions" in many.text
    assert "no regions" in shown([]).text and "no regions" in Page(Findings(())._repr_html_()).text


def test_an_image_that_is_gone_is_said(tmp_path: Path) -> None:
    page = shown(regions("a"), tmp_path / "gone.png")
    assert page.images() == [] and "no picture" in page.text and "gone.png" in page.text


def test_text_from_right_to_left_has_its_direction() -> None:
    page = shown(regions("חתול"))
    assert any(attributes.get("dir") == "auto" for _, attributes in page.elements)


def test_what_is_not_there_is_named() -> None:
    page = Page(Findings((), (AbsentName("saxophone", 0.07),))._repr_html_())
    assert "not there: saxophone .07" in page.text
