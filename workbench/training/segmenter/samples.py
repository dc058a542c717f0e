"""Windows of drawn scenes with one object's exact mask each, for the training of the small segmenter.

A sample has two windows, the inner within the outer, as at inference a wide look comes before a close one. Half of
the scenes are made less drawn: their objects keep their shapes, but get surfaces of photographs, and so do their
backgrounds, so that what separates an object is not only the flat colour of icons.

Shapes: B = samples, S = side of a window in pixels, H W = an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from dynrefer.workbench.scenes.photographs import PhotographPack, photograph_background
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.training.embedded.stored_pictures import draw_storage, store

MIN_PIXELS = 14  # of an object's mask in a window; less says nothing about its form
_TEXTURED = 0.5  # of the scenes
_STORED = 0.4  # of the scenes, as JPEG or at another scale
_BOXED = 0.25  # of the samples are asked about with a box
_JITTER = 0.06  # of the box's side

Window = tuple[float, float, float, float]  # xyxy, pixels of the image


@dataclass
class WindowBatch:
    """pixels, outer_pixels: (B, 3, S, S) uint8. mask: (B, S, S) bool, the object that is meant, in the inner window.

    placement: (B, 4) float32, the inner window xyxy as fractions of the outer. box: (B, 4) float32, xyxy as fractions
    of the inner window; NaN where no box is given.
    """

    pixels: Tensor
    mask: Tensor
    outer_pixels: Tensor
    placement: Tensor
    box: Tensor


class WindowSamples:
    """Batches of windows; a pure function of (scenes, photographs, seed, index)."""

    def __init__(
        self, scenes: Sequence[Scene], photographs: PhotographPack, seed: int, batch_size: int, side: int
    ) -> None:
        self._scenes, self._photographs = scenes, photographs
        self._seed, self._batch_size, self._side = seed, batch_size, side

    def __getitem__(self, index: int) -> WindowBatch:
        """The batch of this index, from 0 on, without end."""
        rng = np.random.default_rng((self._seed, index))
        rows: list[_Row] = []
        while len(rows) < self._batch_size:
            scene = self._scene(rng)
            for place in rng.permutation(len(scene.objects))[:4]:
                row = _sample(scene, int(place), self._side, rng)
                if row is not None:
                    rows.append(row)
        stacked = [torch.from_numpy(np.stack(column)) for column in zip(*rows[: self._batch_size], strict=True)]
        return WindowBatch(*stacked)

    def _scene(self, rng: np.random.Generator) -> Scene:
        scene = self._scenes[int(rng.integers(len(self._scenes)))]
        if rng.random() < _TEXTURED:
            scene = textured(scene, self._photographs, rng)
        storage = draw_storage(rng, _STORED)
        return scene if storage is None else store(scene, storage)


def textured(scene: Scene, photographs: PhotographPack, rng: np.random.Generator) -> Scene:
    """The scene's shapes with surfaces of photographs, behind edges that are a little soft."""
    height, width = scene.owner.shape
    image = scene.image.astype(np.float32)
    if rng.random() < 0.8:
        image = _painted(image, scene.owner < 0, photographs, rng)
    for index in range(len(scene.objects)):
        choice = rng.random()
        surface = photograph_background(photographs, width, height, rng).astype(np.float32)
        if choice < 0.4:  # the photograph's own colours
            image = _blended(image, surface, scene.visible(index))
        elif choice < 0.75:  # the icon's colours with the photograph's grain
            grain = surface.mean(axis=2, keepdims=True)
            strength = rng.uniform(0.5, 1.2)
            image = _blended(image, image + strength * (grain - grain.mean()), scene.visible(index))
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
        pixels = np.asarray(blurred)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 10), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return Scene(pixels, scene.scene, scene.objects, scene.seed, scene.owner)


def _painted(
    image: NDArray[np.float32], where: NDArray[np.bool_], photographs: PhotographPack, rng: np.random.Generator
) -> NDArray[np.float32]:
    height, width = where.shape
    return _blended(image, photograph_background(photographs, width, height, rng).astype(np.float32), where)


def _blended(image: NDArray[np.float32], surface: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    edge = Image.fromarray(where.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.7))
    weight = np.asarray(edge, dtype=np.float32)[..., None] / 255
    return np.asarray(image + weight * (surface - image), dtype=np.float32)


_Row = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


def _sample(scene: Scene, index: int, side: int, rng: np.random.Generator) -> _Row | None:
    """One row of a `WindowBatch`; None where the object hardly shows."""
    visible = scene.visible(index)
    found = bounds(visible)
    if found is None:
        return None
    height, width = visible.shape
    boxed = rng.random() < _BOXED
    inner = _window(found, visible, (width, height), boxed, rng)
    outer = _around(inner, (width, height), rng)
    mask = cut_mask(visible, inner, side)
    if mask.sum() < MIN_PIXELS:
        return None
    box = np.full(4, np.nan, dtype=np.float32)
    if boxed:
        jitter = rng.normal(0, _JITTER, 4) * np.tile((found[2] - found[0], found[3] - found[1]), 2)
        box = fractions(np.array(found) + jitter, inner)
    placement = fractions(np.array(inner), outer)
    return cut_pixels(scene.image, inner, side), mask, cut_pixels(scene.image, outer, side), placement, box


def _window(
    found: Window, visible: NDArray[np.bool_], size: tuple[int, int], boxed: bool, rng: np.random.Generator
) -> Window:
    """The whole image, a part around the object, or a part around one of its pixels."""
    choice = rng.random()
    if choice < 0.35 and not boxed:
        return 0.0, 0.0, float(size[0]), float(size[1])
    x1, y1, x2, y2 = found
    if choice < 0.8 or boxed:
        wide, tall = (x2 - x1) * rng.uniform(1.15, 2.4), (y2 - y1) * rng.uniform(1.15, 2.4)
        if rng.random() < 0.7:  # of about the object's own shape, else nearly square
            wide = tall = max(wide, tall)
        x = (x1 + x2) / 2 + rng.uniform(-0.4, 0.4) * (wide - (x2 - x1))
        y = (y1 + y2) / 2 + rng.uniform(-0.4, 0.4) * (tall - (y2 - y1))
    else:
        rows, columns = np.nonzero(visible)
        at = int(rng.integers(len(rows)))
        x, y = float(columns[at]), float(rows[at])
        wide = tall = max(size) * rng.uniform(0.2, 0.6)
    return placed(x, y, wide, tall, size)


def _around(inner: Window, size: tuple[int, int], rng: np.random.Generator) -> Window:
    """A window that holds the inner one, somewhere."""
    if rng.random() < 0.4:
        return 0.0, 0.0, float(size[0]), float(size[1])
    scale = rng.uniform(1.0, 3.0)
    wide, tall = (inner[2] - inner[0]) * scale, (inner[3] - inner[1]) * scale
    window = placed((inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2, wide, tall, size)
    return (
        min(window[0], inner[0]),
        min(window[1], inner[1]),
        max(window[2], inner[2]),
        max(window[3], inner[3]),
    )


def placed(x: float, y: float, wide: float, tall: float, size: tuple[int, int]) -> Window:
    """A window of this centre and size, moved and if need be narrowed so that it lies inside the image."""
    wide, tall = min(max(wide, 8.0), float(size[0])), min(max(tall, 8.0), float(size[1]))
    left = min(max(x - wide / 2, 0.0), size[0] - wide)
    top = min(max(y - tall / 2, 0.0), size[1] - tall)
    return left, top, left + wide, top + tall


def bounds(mask: NDArray[np.bool_]) -> Window | None:
    """The tight box of a mask, xyxy with exclusive ends; None where it is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def fractions(box: NDArray[np.float64], window: Window) -> NDArray[np.float32]:
    """A box xyxy in pixels of the image as fractions of a window."""
    origin, extent = np.array(window[:2] * 2), np.array((window[2] - window[0], window[3] - window[1]) * 2)
    return np.asarray((box - origin) / extent, dtype=np.float32)


def cut_pixels(image: NDArray[np.uint8], window: Window, side: int) -> NDArray[np.uint8]:
    """The window, stretched to (3, side, side) uint8."""
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=window)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def cut_mask(mask: NDArray[np.bool_], window: Window, side: int) -> NDArray[np.bool_]:
    """The mask in the window, (side, side) bool."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = grey.resize((side, side), Image.Resampling.BILINEAR, box=window)
    return np.asarray(resized) > 127
