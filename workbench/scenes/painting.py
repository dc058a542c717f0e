"""Appearance of one object: pose, recolouring, darkening, pattern and transparency of its sprite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dynrefer.workbench.scenes.artwork import alpha_box
from dynrefer.workbench.scenes.colours import pigment

Pattern = Literal["plain", "striped", "dotted"]
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Posed:
    """A posed sprite: RGBA image, tightly cropped, and the name of the pose (None if its poses look alike)."""

    image: Image.Image
    pose: str | None


@dataclass(frozen=True)
class Look:
    """How a sprite's pixels are changed.

    tint: a colour name, or None to keep its colours. gain: below 1 darkens, above 1 brightens. opacity: in (0, 1].
    outlined: with a dark line along its rim, as in some art styles.
    """

    tint: str | None
    gain: float
    pattern: Pattern
    opacity: float
    outlined: bool = False


def pose_sprite(sprite: NDArray[np.uint8], posed: bool, rng: np.random.Generator) -> Posed:
    """Mirror and rotate a sprite, (h, w, 4) uint8. The angles of the three poses are far apart."""
    image = Image.fromarray(sprite)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    choice = rng.random()
    if choice < 0.16:
        angle = float(rng.uniform(28, 62) * rng.choice([-1, 1]))
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        pose = "tilted"
    elif choice < 0.27:
        image = image.transpose(Image.Transpose.ROTATE_180)
        pose = "upside-down"
    else:
        pose = "upright"
    if choice < 0.16:
        image = image.crop(alpha_box(image))
    return Posed(image, pose if posed else None)


def paint(image: Image.Image, size: tuple[int, int], look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The object at its final size, (h, w, 4) uint8 RGBA; size: (w, h) in pixels."""
    pixels = np.array(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    rgb = pixels[..., :3].astype(np.float32)
    if look.tint is not None:
        rgb = _tinted(rgb, pixels[..., 3], pigment(look.tint, rng), rng)
    if look.gain < 1:
        rgb *= look.gain
    elif look.gain > 1:
        rgb = 255 - (255 - rgb) * (2 - look.gain)
    if look.pattern != "plain":
        rgb = _patterned(rgb, look.pattern, rng)
    if look.outlined:
        rgb[_rim(pixels[..., 3])] *= 0.12
    pixels[..., :3] = rgb
    if look.opacity < 1:
        pixels[..., 3] = pixels[..., 3] * np.float32(look.opacity)
    return pixels


def _tinted(
    rgb: NDArray[np.float32], alpha: NDArray[np.uint8], colour: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Repaint in `colour`, keeping the sprite's shading around its own mean and a trace of its hues."""
    luma = rgb @ _LUMA / 255
    solid = alpha > 127
    relief = luma - (float(luma[solid].mean()) if solid.any() else 0.5)
    depth = float(rng.uniform(0.6, 0.85))
    up, down = np.maximum(relief, 0)[..., None] * depth, np.minimum(relief, 0)[..., None] * depth * 1.5
    painted = colour + up * (1 - colour) + down * colour
    mix = np.float32(rng.uniform(0.8, 0.95))
    return np.asarray(np.clip(painted * (255 * mix) + rgb * (1 - mix), 0, 255), dtype=np.float32)


def _rim(alpha: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The visible pixels along the edge, (h, w) bool; one or two pixels deep, by the object's size."""
    width = 3 if max(alpha.shape) < 56 else 5
    inner = np.asarray(Image.fromarray(np.pad(alpha, 2)).filter(ImageFilter.MinFilter(width)))[2:-2, 2:-2]
    return (alpha > 90) & (inner < 90)


def _patterned(rgb: NDArray[np.float32], pattern: Pattern, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw stripes or dots over the object: darker, or lighter if the object is dark."""
    height, width = rgb.shape[:2]
    period = max(5.0, max(height, width) / float(rng.uniform(4, 7)))
    angle = float(rng.uniform(0, np.pi))
    x = np.arange(width, dtype=np.float32) / period
    y = np.arange(height, dtype=np.float32)[:, None] / period
    along = (x * np.cos(angle) + y * np.sin(angle) + rng.random()) % 1
    if pattern == "striped":
        marked = along < 0.42
    else:
        across = (y * np.cos(angle) - x * np.sin(angle) + rng.random()) % 1
        marked = (along - 0.5) ** 2 + (across - 0.5) ** 2 < 0.085
    strength = np.float32(rng.uniform(0.5, 0.65))
    ink = np.float32(255 if float(rgb.mean()) < 90 else 0)
    rgb[marked] += strength * (ink - rgb[marked])
    return rgb
