"""The order of parts from right to left, by FriBiDi as the other implementation."""

import pytest
from PIL import Image, ImageDraw, features

from dynrefer.model.drawing.bidi import has_right_to_left, in_visual_order, is_right_to_left, levels
from dynrefer.model.drawing.typefaces import SHIPPED, font

HEBREW = "חתול"


def visual(text: str) -> str:
    """Character by character from left to right."""
    return "".join(each for each, _ in in_visual_order(list(zip(text, levels(text), strict=True))))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc 123", "abc 123"),
        (HEBREW, HEBREW[::-1]),
        (f"{HEBREW} abc", f"abc {HEBREW[::-1]}"),
        (f"abc {HEBREW}!", f"abc {HEBREW[::-1]}!"),
        (f"{HEBREW} 12.5% {HEBREW}", f"{HEBREW[::-1]} 12.5% {HEBREW[::-1]}"),
        (f"abc {HEBREW} 12 {HEBREW} def", f"abc {HEBREW[::-1]} 12 {HEBREW[::-1]} def"),
        (f"{HEBREW}, abc 3 def, {HEBREW}", f"{HEBREW[::-1]} ,abc 3 def ,{HEBREW[::-1]}"),
        ("قطة 3", "3 ةطق"),
        ("قطة 3,5", "3,5 ةطق"),
        ("", ""),
    ],
)
def test_the_order_from_left_to_right(text: str, shown: str) -> None:
    assert visual(text) == shown


@pytest.mark.skipif(not features.check("raqm"), reason="needs FriBiDi, Debian's libfribidi0")
@pytest.mark.parametrize(
    "text", [f"{HEBREW} ab 12", f"ab {HEBREW} 3 {HEBREW}, cd", f"{HEBREW} 12.5% {HEBREW}", f"x {HEBREW}"]
)
def test_fribidi_puts_the_parts_in_the_same_order(text: str) -> None:
    direction = "rtl" if is_right_to_left(text) else "ltr"
    whole, parts = (Image.new("L", (500, 60)) for _ in range(2))
    face = font(SHIPPED[0], 30)
    ImageDraw.Draw(whole).text((5, 5), text, 255, face, direction=direction)
    x = 5.0
    pieces = [(each, level) for each, level in zip(text, levels(text), strict=True)]
    for each, _ in in_visual_order(pieces):
        ImageDraw.Draw(parts).text((x, 5), each, 255, face)
        x += face.getlength(each)
    assert whole.getbbox() is not None
    # The same letters at the same places, but for kerning.
    columns = [[sum(image.crop((x, 0, x + 25, 60)).tobytes()) for x in range(0, 475, 25)] for image in (whole, parts)]
    assert all(abs(first - second) <= 0.35 * max(columns[0]) for first, second in zip(*columns, strict=True))


def test_what_runs_from_right_to_left() -> None:
    assert is_right_to_left(f"12 {HEBREW} abc") and not is_right_to_left(f"abc {HEBREW}") and not is_right_to_left("12")
    assert has_right_to_left(f"abc {HEBREW}") and not has_right_to_left("Straße 黑猫 12")
