"""Fixed rules that name the colour and the tone of drawn pixels, and the colours that objects are painted with."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
_NONE = len(COLOURS)  # a pixel whose colour lies between the names
DOMINANT_FRACTION = 0.5  # of an object's pixels that must have the same colour name

# Ranges of hue in degrees, saturation and value that a shade is drawn from.
_PIGMENTS = {
    "red": ((-6, 5), (0.82, 0.97), (0.72, 0.95)),
    "orange": ((23, 32), (0.85, 0.98), (0.92, 1.0)),
    "yellow": ((49, 57), (0.75, 0.95), (0.92, 1.0)),
    "green": ((95, 145), (0.6, 0.9), (0.5, 0.85)),
    "blue": ((205, 236), (0.7, 0.92), (0.6, 0.97)),
    "purple": ((265, 284), (0.6, 0.82), (0.5, 0.82)),
    "pink": ((322, 342), (0.35, 0.55), (0.94, 1.0)),
    "brown": ((18, 30), (0.58, 0.75), (0.38, 0.52)),
    "black": ((0, 360), (0.0, 0.1), (0.08, 0.15)),
    "white": ((0, 360), (0.0, 0.03), (0.95, 1.0)),
    "gray": ((0, 360), (0.0, 0.05), (0.48, 0.64)),
}


def pigment(colour: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random shade of `colour`, (3,) float32 RGB in [0, 1]."""
    hue, saturation, value = (rng.uniform(*bounds) for bounds in _PIGMENTS[colour])
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1.0, saturation, value), dtype=np.float32)


def measure_colour(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str | None:
    """The colour name of at least half of the masked pixels, or None. rgb: (h, w, 3) uint8; mask: (h, w) bool."""
    shares = colour_shares(rgb, mask)
    best = max(shares, key=lambda colour: shares[colour])
    return best if shares[best] >= DOMINANT_FRACTION else None


def colour_shares(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Colour name -> the part of the masked pixels that have it, in [0, 1]; all 0 where nothing is masked."""
    pixels = (rgb[mask] >> 3).astype(np.int32)
    names = _name_table()[(pixels[:, 0] << 10) | (pixels[:, 1] << 5) | pixels[:, 2]]
    counts = np.bincount(names, minlength=_NONE + 1)[:_NONE]
    return {colour: float(count) / max(1, len(pixels)) for colour, count in zip(COLOURS, counts, strict=True)}


def measure_tone(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str | None:
    """Dark, medium or bright, from the mean of the masked pixels' brightest channel; None in the gaps between them."""
    pixels = rgb[mask]
    if not len(pixels):
        return None
    value = float(pixels.max(axis=1).mean()) / 255
    if value < 0.42:
        return "dark"
    if value > 0.9:
        return "bright"
    return "medium" if 0.5 <= value <= 0.82 else None


@lru_cache(maxsize=1)
def _name_table() -> NDArray[np.uint8]:
    """Index in COLOURS of every colour with 5 bits per channel, (32768,) uint8; `_NONE` between the names."""
    table = np.empty(32768, dtype=np.uint8)
    for code in range(32768):
        red, green, blue = ((code >> shift & 31) / 31 for shift in (10, 5, 0))
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        name = _name_of(hue * 360, saturation, value)
        table[code] = COLOURS.index(name) if name else _NONE
    return table


def _name_of(hue: float, saturation: float, value: float) -> str | None:
    if value < 0.24:
        return "black"
    if saturation < 0.16:
        return "white" if value > 0.85 else "gray" if value > 0.3 else "black"
    if saturation < 0.28 and value < 0.7:
        return "gray"
    if hue >= 345 or hue < 13:
        return _reddish(hue, saturation, value)
    if hue < 43:
        return _warm(saturation, value)
    if hue < 66:
        return "yellow" if value > 0.65 and saturation > 0.35 else None
    if hue < 168:
        return "green"
    if hue < 185:
        return None
    if hue < 256:
        return "blue"
    if hue < 296:
        return "purple"
    return "pink" if value > 0.62 else "purple"


def _reddish(hue: float, saturation: float, value: float) -> str | None:
    if saturation < 0.55:
        return "pink" if value > 0.75 else "brown"
    return "brown" if 6 < hue < 13 and value < 0.55 else "red"


def _warm(saturation: float, value: float) -> str | None:
    if value < 0.7:
        return "brown"
    if saturation > 0.6:
        return "orange" if value > 0.78 else "brown"
    return None  # skin and beige
