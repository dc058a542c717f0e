"""Colours and dashes that tell regions apart, for the colour-blind too.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/; black, the
last of them here, is for the eighth region. Regions from the ninth on have the colours again, with dashes.
"""

from typing import NamedTuple

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")
PAPER, INK, PALE_INK, RULE = "#ffffff", "#16161a", "#56565f", "#dcdce2"
# Lengths of a dash and the gap after it, in widths of the line; none: a solid line.
_DASHES: tuple[tuple[float, ...], ...] = ((), (4.0, 2.5), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0))


class Mark(NamedTuple):
    """How a region is marked. colour: of its line and plate. ink: of text on that colour. dash: of its line."""

    colour: str
    ink: str
    dash: tuple[float, ...]


def mark_of(index: int) -> Mark:
    """Of the region with this number, counted from 0."""
    colour = COLOURS[index % len(COLOURS)]
    return Mark(colour, ink_on(colour), _DASHES[index // len(COLOURS) % len(_DASHES)])


def ink_on(colour: str) -> str:
    """Dark or white, whichever is easier to read on a colour."""
    return max((INK, PAPER), key=lambda ink: contrast(ink, colour))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2.2 of two colours, 1 to 21; text needs 4.5 (success criterion 1.4.3)."""
    dark, bright = sorted((_luminance(first), _luminance(second)))
    return (bright + 0.05) / (dark + 0.05)


def red_green_blue(colour: str) -> tuple[int, int, int]:
    """Of "#rrggbb", each 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def linear(value: int) -> float:
    """A value of sRGB, 0 to 255, as an amount of light, 0 to 1 (IEC 61966-2-1)."""
    part = value / 255
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def _luminance(colour: str) -> float:
    red, green, blue = (linear(value) for value in red_green_blue(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
