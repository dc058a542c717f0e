"""Backgrounds of the drawn scenes: a texture mapped through a colour ramp, unevenly lit, with some clutter."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_SIDE = 448  # pixels, of a cached texture; scenes use a random part of it
_VARIANTS = 3

Texture = NDArray[np.uint8]

# Colour ramp from dark to bright, RGB 0-255; None: any colour.
_RAMPS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]] | None] = {
    "grass": ((38, 82, 22), (128, 178, 70)),
    "sand": ((190, 152, 96), (240, 214, 160)),
    "snow": ((196, 210, 228), (252, 253, 255)),
    "water": ((16, 84, 132), (112, 190, 214)),
    "night": ((6, 8, 26), (40, 40, 84)),
    "brick wall": ((196, 186, 176), (146, 62, 44)),
    "wooden floor": ((98, 58, 28), (196, 142, 88)),
    "city": ((72, 78, 90), (186, 190, 198)),
    "sky": ((92, 158, 226), (244, 248, 252)),
    "plain background": None,
}


def draw_background(scene: str, width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random rendering of `scene`, (height, width, 3) uint8 RGB. Raises KeyError for an unknown scene."""
    texture = _textures(scene)[int(rng.integers(_VARIANTS))]
    top, left = (int(rng.integers(_SIDE - extent + 1)) for extent in (height, width))
    index = texture[top : top + height, left : left + width].astype(np.int16)
    if rng.random() < 0.5:
        index = index[:, ::-1]
    tilt_x, tilt_y = rng.uniform(-28, 28, 2)
    index = index + np.linspace(-tilt_y, tilt_y, height, dtype=np.float32).astype(np.int16)[:, None]
    index += np.linspace(-tilt_x, tilt_x, width, dtype=np.float32).astype(np.int16)
    np.clip(index, 0, 255, out=index)
    image: NDArray[np.uint8] = _ramp(scene, rng)[index]
    return _clutter(scene, image, rng)


def _ramp(scene: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The scene's ramp, (256, 3) uint8, with jittered colour, contrast and brightness."""
    ends = _RAMPS[scene]
    if ends is None:
        base = rng.uniform(70, 250, 3)
        low, high = base * 0.93, np.minimum(base * 1.05, 255)
    else:
        low, high = np.array(ends[0], float), np.array(ends[1], float)
        shift = rng.uniform(-9, 9, 3) + rng.uniform(-16, 16)
        squeeze = rng.uniform(0, 0.25) * (high - low) / 2
        low, high = low + shift + squeeze, high + shift - squeeze
    steps = np.linspace(0, 1, 256)[:, None]
    return np.clip(low + steps * (high - low), 0, 255).astype(np.uint8)


def _clutter(scene: str, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw small things that are part of the background and not objects: stars, pebbles, flowers, foam, knots."""
    spots = {"night": 30, "grass": 9, "sand": 8, "snow": 7, "water": 6, "sky": 0, "wooden floor": 3}.get(scene, 0)
    if not spots:
        return image
    height, width = image.shape[:2]
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    count = int(rng.integers(spots // 3, spots + 1))
    places = rng.uniform(0, 1, (count, 2)) * (width, height)
    sizes = rng.uniform(0.4, 1.4, count)
    tints = rng.uniform(0.8, 1.2, count)
    for (x, y), size, tint in zip(places.tolist(), sizes.tolist(), tints.tolist(), strict=True):
        colour, wide, tall = _SPOTS[scene]
        fill = tuple(min(255, int(channel * tint)) for channel in colour)
        draw.ellipse((x, y, x + wide * size, y + tall * size), fill=fill)
    return np.array(canvas)


# Scene -> colour, width and height in pixels of its spots.
_SPOTS: dict[str, tuple[tuple[int, int, int], float, float]] = {
    "night": ((228, 226, 196), 1.6, 1.6),
    "grass": ((222, 220, 120), 2.6, 2.6),
    "sand": ((150, 118, 80), 4.5, 2.6),
    "snow": ((184, 198, 216), 8.0, 3.0),
    "water": ((196, 224, 232), 12.0, 1.4),
    "wooden floor": ((88, 54, 30), 4.0, 2.6),
}


@lru_cache(maxsize=16)
def _textures(scene: str) -> tuple[Texture, ...]:
    """The textures of a scene, (448, 448) uint8 each, cached; the same in every process."""
    makers: dict[str, Callable[[np.random.Generator], NDArray[np.float32]]] = {
        "grass": lambda rng: 0.45 * _noise(rng, 5, 12) + 0.35 * _noise(rng, 2, 5) + 0.2 * _noise(rng, 60, 60),
        "sand": lambda rng: 0.4 * _noise(rng, 2, 2) + 0.3 * _ripples(rng, 26) + 0.3 * _noise(rng, 70, 40),
        "snow": lambda rng: 0.12 * _noise(rng, 2, 2) + 0.88 * _noise(rng, 110, 50),
        "water": lambda rng: 0.65 * _noise(rng, 40, 6) + 0.35 * _ripples(rng, 13),
        "night": lambda rng: 0.9 * _noise(rng, 120, 120) + 0.1 * _noise(rng, 2, 2),
        "brick wall": _bricks,
        "wooden floor": _planks,
        "city": _buildings,
        "sky": lambda rng: np.clip(1.9 * (0.7 * _noise(rng, 80, 34) + 0.3 * _noise(rng, 24, 14)) - 0.85, 0, 1),
        "plain background": lambda rng: 0.85 * _noise(rng, 220, 220) + 0.15 * _noise(rng, 2, 2),
    }
    number = list(_RAMPS).index(scene)
    made = (makers[scene](np.random.default_rng((977, number, v))) for v in range(_VARIANTS))
    return tuple((np.clip(texture, 0, 1) * 255).astype(np.uint8) for texture in made)


def _noise(rng: np.random.Generator, wide: float, tall: float) -> NDArray[np.float32]:
    """Smooth noise, (448, 448) float32 in [0, 1], with a grain of about `wide` x `tall` pixels."""
    cells = (max(2, round(_SIDE / wide)), max(2, round(_SIDE / tall)))
    coarse = rng.random((cells[1], cells[0]), dtype=np.float32)
    smooth = Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(smooth), 0, 1), dtype=np.float32)


def _ripples(rng: np.random.Generator, period: float) -> NDArray[np.float32]:
    rows = np.arange(_SIDE, dtype=np.float32)[:, None] + 26 * _noise(rng, 90, 60)
    return np.asarray(0.5 + 0.5 * np.sin(rows * (2 * np.pi / period)), dtype=np.float32)


def _bricks(rng: np.random.Generator) -> NDArray[np.float32]:
    tall, wide, mortar = int(rng.integers(13, 20)), int(rng.integers(30, 44)), 2
    y, x = np.mgrid[0:_SIDE, 0:_SIDE]
    row = y // tall
    x = x + (row % 2) * (wide // 2)
    shade = rng.uniform(0.62, 1.0, (_SIDE // tall + 2, _SIDE // wide + 3))[row, x // wide]
    joint = (y % tall < mortar) | (x % wide < mortar)
    wall = np.where(joint, 0.1, shade) * (0.88 + 0.12 * _noise(rng, 3, 3))
    return np.asarray(wall, dtype=np.float32)


def _planks(rng: np.random.Generator) -> NDArray[np.float32]:
    tall = int(rng.integers(24, 38))
    rows = np.arange(_SIDE) // tall
    shade = rng.uniform(0.35, 0.85, _SIDE // tall + 1)[rows][:, None]
    grain = 0.3 * (_noise(rng, 120, 3) - 0.5) + 0.1 * (_noise(rng, 40, 8) - 0.5)
    seam = (np.arange(_SIDE) % tall < 2)[:, None]
    return np.asarray(np.where(seam, 0.04, shade + grain), dtype=np.float32)


def _buildings(rng: np.random.Generator) -> NDArray[np.float32]:
    """House fronts with rows of windows, dense enough that every part of the texture shows some."""
    canvas = Image.new("L", (_SIDE, _SIDE), 225)
    draw = ImageDraw.Draw(canvas)
    x = 0
    while x < _SIDE:
        wide, roof = int(rng.integers(34, 70)), int(rng.integers(4, 80))
        wall, glass = int(rng.integers(70, 170)), int(rng.choice([15, 25, 250]))
        draw.rectangle((x, roof, x + wide - 2, _SIDE), fill=wall)
        for top in range(roof + 6, _SIDE, 17):
            for left in range(x + 5, x + wide - 9, 12):
                draw.rectangle((left, top, left + 5, top + 8), fill=glass)
        x += wide
    front = np.asarray(canvas, dtype=np.float32) / 255
    return front * (0.92 + 0.08 * _noise(rng, 2, 2))
