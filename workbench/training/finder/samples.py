"""Batches of images with all their objects, for the training of the finder.

An image is a drawn scene at a random scale, flipped or not, sometimes stored as JPEG or with surfaces of photographs,
on a square canvas. A batch is a pure function of (scenes, photographs, seed, index, side).

Shapes: B = images, S = side of the canvas in pixels, M = objects of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene, SceneObject
from dynrefer.workbench.training.embedded.stored_pictures import draw_storage, store
from dynrefer.workbench.training.segmenter.samples import textured

MASK_STRIDE = 4  # pixels between places of the masks
UNNAMED = -1  # the label of an object whose name is not trained
_PADDING = 127  # what the canvas shows beside the image
_SCALES = 0.65, 1.4  # of the image's longest side, relative to the canvas; what sticks out is cut off
_CLOSE_SCALES = 0.5, 1.0  # of an object's longest side, where the canvas shows one object
_OBJECTS_OF_SCENE = 4  # at most so many canvases of a scene show one object each
_TEXTURED, _STORED = 0.1, 0.4
_LEAST_PART = 0.4  # of an object's area that has to be on the canvas
_LEAST_SIDE = 4.0  # pixels of the canvas


@dataclass
class FinderBatch:
    """pixels: (B, 3, S, S) uint8. boxes: (M, 4) float32 xyxy, pixels of the canvas. labels: (M,) int64, places among
    the trained names, or `UNNAMED`. image: (M,) int64, ascending. owner: (B, S / 4, S / 4) int16, the place m of the
    object that a pixel shows, -1 for none. captions: B, what the objects of an image are, "a red cup. a dog."
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    image: Tensor
    owner: Tensor
    captions: list[str]


class FinderSamples:
    """Batches of scenes. names: those that are trained, in order. drawn: surfaces and storage are varied too."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        photographs: PhotographPack,
        names: Sequence[str],
        seed: int,
        batch_size: int,
        *,
        drawn: bool = True,
    ) -> None:
        self._scenes, self._photographs, self._seed, self._batch_size = scenes, photographs, seed, batch_size
        self._drawn = drawn
        self._labels: Mapping[str, int] = {name: place for place, name in enumerate(names)}

    def batch(self, index: int, side: int, *, close: bool = False) -> FinderBatch:
        """The batch of an index on canvases of this side, a multiple of 32. close: each is about one object."""
        rng = np.random.default_rng((self._seed, index))
        rows: list[_Row] = []
        while len(rows) < self._batch_size:
            scene = self._scene(rng)
            shown = rng.permutation(len(scene.objects))[:_OBJECTS_OF_SCENE] if close else [None]
            rows += [on_canvas(scene, side, rng, focus) for focus in shown]
        rows = rows[: self._batch_size]
        before = np.cumsum([0, *(len(row.names) for row in rows)])
        owners = [np.where(row.owner >= 0, row.owner + count, -1) for row, count in zip(rows, before, strict=False)]
        return FinderBatch(
            torch.from_numpy(np.stack([row.pixels for row in rows])),
            torch.from_numpy(np.concatenate([row.boxes for row in rows])),
            torch.tensor([self._labels.get(name, UNNAMED) for row in rows for name in row.names], dtype=torch.int64),
            torch.tensor([place for place, row in enumerate(rows) for _ in row.names], dtype=torch.int64),
            torch.from_numpy(np.stack(owners).astype(np.int16)),
            [" ".join(row.phrases) for row in rows],
        )

    def _scene(self, rng: np.random.Generator) -> Scene:
        scene = self._scenes[int(rng.integers(len(self._scenes)))]
        if not self._drawn:
            return scene
        if rng.random() < _TEXTURED:
            scene = textured(scene, self._photographs, rng)
        storage = draw_storage(rng, _STORED)
        return scene if storage is None else _restored(scene, store(scene, storage))


class _Row(NamedTuple):
    """One canvas: (3, S, S) uint8 pixels, (M, 4) float32 boxes, M names and phrases, (S / 4, S / 4) int16 owners."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    names: list[str]
    phrases: list[str]
    owner: NDArray[np.int16]


def _restored(scene: Scene, stored: Scene) -> Scene:
    """A stored scene with the drawn one's owners at its own size."""
    height, width = stored.image.shape[:2]
    (tall, wide) = scene.owner.shape
    return replace(stored, owner=scene.owner[_nearest(tall, height)][:, _nearest(wide, width)])


def on_canvas(scene: Scene, side: int, rng: np.random.Generator, focus: int | None = None) -> _Row:
    """The scene on a canvas of this side, or what lies around its object of index `focus`."""
    height, width = scene.image.shape[:2]
    if focus is None:
        longest, (low, high) = max(width, height), _SCALES
    else:
        x1, y1, x2, y2 = scene.objects[focus].box
        longest, (low, high) = max(x2 - x1, y2 - y1, 1.0), _CLOSE_SCALES
    scale = math.exp(rng.uniform(math.log(low), math.log(high))) * side / longest
    # What the canvas shows, in pixels of the scene: a part of it, or all of it and grey beside it.
    shown = side / scale
    if focus is None:
        left, top = (rng.uniform(min(0, size - shown), max(0, size - shown)) for size in (width, height))
    else:
        left, top = rng.uniform(x2 - shown, x1), rng.uniform(y2 - shown, y1)
    x1, y1, x2, y2 = max(0.0, left), max(0.0, top), min(width, left + shown), min(height, top + shown)
    column, row = round((x1 - left) * scale), round((y1 - top) * scale)
    wide, tall = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    resample = Image.Resampling.BILINEAR if rng.random() < 0.7 else Image.Resampling.BICUBIC
    part = Image.fromarray(scene.image).resize((wide, tall), resample, box=(x1, y1, x2, y2))
    canvas = np.full((side, side, 3), _PADDING, dtype=np.uint8)
    owner = np.full((side, side), -1, dtype=np.int16)
    wide, tall = min(wide, side - column), min(tall, side - row)
    canvas[row : row + tall, column : column + wide] = np.asarray(part)[:tall, :wide]
    rows, columns = (
        np.clip((start + (np.arange(count) + 0.5) / scale).astype(np.int64), 0, size - 1)
        for start, count, size in ((y1, tall, height), (x1, wide, width))
    )
    owner[row : row + tall, column : column + wide] = scene.owner[rows][:, columns]
    boxes = np.array([obj.box for obj in scene.objects], dtype=np.float64).reshape(-1, 4)
    boxes = (boxes - np.array([left, top] * 2)) * scale
    clipped = np.clip(boxes, np.array([column, row] * 2), np.array([column + wide, row + tall] * 2))
    if rng.random() < 0.5:
        canvas, owner = canvas[:, ::-1], owner[:, ::-1]
        boxes, clipped = _mirrored(boxes, side), _mirrored(clipped, side)
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = (sides.min(axis=1) >= _LEAST_SIDE) & (sides.prod(axis=1) >= _LEAST_PART * whole.prod(axis=1))
    # What is cut off too much is no object of the canvas; nor are its pixels.
    renumbered = np.full(len(boxes) + 1, -1, dtype=np.int16)
    renumbered[np.flatnonzero(kept)] = np.arange(int(kept.sum()))
    middle = slice(MASK_STRIDE // 2, None, MASK_STRIDE)
    objects = [obj for obj, keep in zip(scene.objects, kept, strict=True) if keep]
    names, phrases = [obj.category for obj in objects], [_phrase(obj) for obj in objects]
    pixels = np.ascontiguousarray(canvas.transpose(2, 0, 1))
    return _Row(pixels, clipped[kept].astype(np.float32), names, phrases, renumbered[owner[middle, middle]])


def _mirrored(boxes: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    return np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)


def _phrase(obj: SceneObject) -> str:
    if not obj.category:  # of a file, with a name that is not trained
        return f"{obj.captions[0]}." if obj.captions else ""
    return " ".join(["a", *filter(None, [obj.attributes.get("color")]), obj.category]) + "."


def _nearest(size: int, wanted: int) -> NDArray[np.int64]:
    """Which of `size` rows each of `wanted` rows comes from."""
    return np.minimum(((np.arange(wanted) + 0.5) * size / wanted).astype(np.int64), size - 1)
