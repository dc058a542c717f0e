"""Lines of text: they fit, break where lines may break, and run in the right direction."""

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.drawing import typesetting
from dynrefer.model.drawing.typesetting import Type, clusters

SAMPLES = [
    "a large red snowman with a hat standing in snow",
    "黒猫のテーブル、「テーブル」の上に座っている cats and dogs",
    "قطة سوداء cat and dogs 3 نائمة على طاولة",
    "काली बिल्ली मेज़ पर सो रही है",
    "แมวสีดำนอนอยู่บนโต๊ะ",
    "W" * 60,
]


@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize("width", [60, 140, 400])
def test_lines_fit_and_nothing_is_lost(text: str, width: int) -> None:
    kind = Type(18)
    lines = kind.wrapped(text, width)
    assert all(kind.width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "").replace("\u200f", "") == text.replace(" ", "")


@pytest.mark.parametrize("text", SAMPLES)
def test_a_shortened_text_fits_and_says_so(text: str) -> None:
    kind = Type(18)
    short = kind.fitted(text, 120)
    assert kind.width(short) <= 120 and short.endswith("…") and text.startswith(short[:-1])
    assert kind.fitted(text, 5000) == text and kind.fitted(text, 3) == ""


def test_more_lines_than_there_is_room_for_are_shortened() -> None:
    kind = Type(18)
    lines = kind.wrapped(SAMPLES[0], 120, most=2)
    assert len(lines) == 2 and lines[1].endswith("…") and kind.width(lines[1]) <= 120
    assert kind.wrapped("a", 1, most=2) == ["a"] and kind.wrapped("", 50) == [""]


def test_marks_stay_with_their_letters() -> None:
    assert list(clusters("cafe\u0301s")) == ["c", "a", "f", "e\u0301", "s"]
    assert list(clusters("क्षमा")) == ["क्ष", "मा"]
    assert list(clusters("ที่")) == ["ที่"] and list(clusters("")) == []


def test_lines_do_not_begin_with_a_closing_mark_nor_end_with_an_opening_one() -> None:
    kind = Type(18)
    for width in range(120, 300, 7):
        lines = kind.wrapped(SAMPLES[1], width)
        assert not any(line.startswith(("、", "」", "ー", "っ")) for line in lines[1:]), lines
        assert not any(line.endswith("「") for line in lines), lines


def inked(text: str, kind: Type) -> np.ndarray:
    image = Image.new("RGB", (300, 60), "white")
    kind.draw(image, (10, 10), text, "#000000")
    return np.asarray(image.convert("L")) < 128


@pytest.mark.parametrize("shaped", [True, False])
def test_hebrew_runs_from_right_to_left(shaped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last letter, a final form that reaches below the line, stands at the left."""
    if not shaped:
        monkeypatch.setattr(typesetting, "has_raqm", lambda: False)
        monkeypatch.setattr("dynrefer.model.drawing.typefaces.has_raqm", lambda: False)
    typesetting._parts.cache_clear()
    typesetting.font.cache_clear()
    try:
        ink = inked("אבגן", Type(24))
        descender = np.nonzero(ink[10 + 28 :].any(axis=0))[0]
        assert len(descender) and descender.max() < np.nonzero(ink.any(axis=0))[0].mean()
    finally:
        typesetting._parts.cache_clear()
        typesetting.font.cache_clear()


@pytest.mark.parametrize("text", ["黑猫 (cat)", "חתול 黑猫 3", "a", "قطة"])
def test_a_line_is_as_wide_as_it_says(text: str) -> None:
    kind = Type(24)
    columns = np.nonzero(inked(text, kind).any(axis=0))[0]
    assert columns.min() >= 10 - 3 and columns.max() <= 10 + kind.width(text) + 3
    assert columns.max() - columns.min() > 0.8 * kind.width(text) - 6


def test_text_over_the_edge_is_cut_and_no_error() -> None:
    image = Image.new("RGB", (50, 20), "white")
    Type(24).draw(image, (40, -10), "beyond", "#000000")
    Type(24).draw(image, (-30, 15), "beyond", "#000000")
    Type(24).draw(image, (500, 500), "beyond", "#000000")
