"""Batches of images with all their objects, for the training of the finder.

An image is a drawn scene at a random scale, flipped or not, sometimes stored as JPEG or with surfaces of photographs,
on a square canvas. A batch is a pure function of (scenes, photographs, seed, index, side).

Shapes: B = images, S = side of the canvas in pixels, M = objects of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.training.embedded.stored_pictures import draw_storage, store
from dynrefer.workbench.training.segmenter.samples import textured

MASK_STRIDE = 4  # pixels between places of the masks
UNNAMED = -1  # the label of an object whose name is not trained
_PADDING = 127  # what the canvas shows beside the image
_SCALES = 0.55, 1.25  # of the image's longest side, relative to the canvas; what sticks out is cut off
_TEXTURED, _STORED = 0.1, 0.4
_LEAST_PART = 0.4  # of an object's area that has to be on the canvas
_LEAST_SIDE = 4.0  # pixels of the canvas


@dataclass
class FinderBatch:
    """pixels: (B, 3, S, S) uint8. boxes: (M, 4) float32 xyxy, pixels of the canvas. labels: (M,) int64, places among
    the trained names, or `UNNAMED`. image: (M,) int64, ascending. owner: (B, S / 4, S / 4) int16, the place m of the
    object that a pixel shows, -1 for none.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    image: Tensor
    owner: Tensor


class FinderSamples:
    """Batches of drawn scenes. names: those that are trained, in order."""

    def __init__(
        self, scenes: Sequence[Scene], photographs: PhotographPack, names: Sequence[str], seed: int, batch_size: int
    ) -> None:
        self._scenes, self._photographs, self._seed, self._batch_size = scenes, photographs, seed, batch_size
        self._labels: Mapping[str, int] = {name: place for place, name in enumerate(names)}

    def batch(self, index: int, side: int) -> FinderBatch:
        """The batch of an index on canvases of this side, a multiple of 32."""
        rng = np.random.default_rng((self._seed, index))
        pixels, boxes, labels, image, owners = [], [], [], [], []
        count = 0
        for place in range(self._batch_size):
            scene = self._scenes[int(rng.integers(len(self._scenes)))]
            if rng.random() < _TEXTURED:
                scene = textured(scene, self._photographs, rng)
            if (storage := draw_storage(rng, _STORED)) is not None:
                scene = _restored(scene, store(scene, storage))
            canvas, found, names, owner = on_canvas(scene, side, rng)
            pixels.append(canvas)
            boxes.append(found)
            labels += [self._labels.get(name, UNNAMED) for name in names]
            image += [place] * len(found)
            owners.append(np.where(owner >= 0, owner + count, -1).astype(np.int16))
            count += len(found)
        return FinderBatch(
            torch.from_numpy(np.stack(pixels)),
            torch.from_numpy(np.concatenate(boxes)),
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(image, dtype=torch.int64),
            torch.from_numpy(np.stack(owners)),
        )


def _restored(scene: Scene, stored: Scene) -> Scene:
    """A stored scene with the drawn one's owners at its own size."""
    if stored.image.shape == scene.image.shape:
        return stored
    height, width = stored.image.shape[:2]
    owner = np.asarray(Image.fromarray(scene.owner.astype(np.int16)).resize((width, height), Image.Resampling.NEAREST))
    return replace(stored, owner=owner.astype(np.int8))


def on_canvas(
    scene: Scene, side: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[str], NDArray[np.int16]]:
    """The scene on a canvas: (3, S, S) pixels, (M, 4) boxes, M names, (S / 4, S / 4) owners."""
    height, width = scene.image.shape[:2]
    low, high = (math.log(scale) for scale in _SCALES)
    scale = math.exp(rng.uniform(low, high)) * side / max(width, height)
    wide, tall = max(32, round(width * scale)), max(32, round(height * scale))
    # A larger image shows a part of itself; a smaller one lies somewhere on the canvas.
    left, top = (int(rng.integers(min(0, side - size), max(0, side - size) + 1)) for size in (wide, tall))
    flip = rng.random() < 0.5
    resample = Image.Resampling.BILINEAR if rng.random() < 0.7 else Image.Resampling.BICUBIC
    image = np.asarray(Image.fromarray(scene.image).resize((wide, tall), resample, reducing_gap=2.0))
    owner = scene.owner[_nearest(height, tall)][:, _nearest(width, wide)].astype(np.int16)
    ratio = np.array([wide / width, tall / height] * 2)
    boxes = np.array([obj.box for obj in scene.objects], dtype=np.float64).reshape(-1, 4) * ratio
    if flip:
        image, owner = image[:, ::-1], owner[:, ::-1]
        boxes = np.stack([wide - boxes[:, 2], boxes[:, 1], wide - boxes[:, 0], boxes[:, 3]], axis=1)
    canvas = np.full((side, side, 3), _PADDING, dtype=np.uint8)
    owners = np.full((side, side), -1, dtype=np.int16)
    x1, y1, x2, y2 = max(0, left), max(0, top), min(side, left + wide), min(side, top + tall)
    part = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
    canvas[y1:y2, x1:x2], owners[y1:y2, x1:x2] = image[part], owner[part]
    boxes += np.array([left, top] * 2)
    clipped = np.clip(boxes, np.array([x1, y1] * 2), np.array([x2, y2] * 2))
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = (sides.min(axis=1) >= _LEAST_SIDE) & (sides.prod(axis=1) >= _LEAST_PART * whole.prod(axis=1))
    # What is cut off too much is no object of the canvas; nor are its pixels.
    renumbered = np.full(len(boxes) + 1, -1, dtype=np.int16)
    renumbered[np.flatnonzero(kept)] = np.arange(int(kept.sum()))
    middle = slice(MASK_STRIDE // 2, None, MASK_STRIDE)
    names = [obj.category for obj, keep in zip(scene.objects, kept, strict=True) if keep]
    pixels = np.ascontiguousarray(canvas.transpose(2, 0, 1))
    return pixels, clipped[kept].astype(np.float32), names, renumbered[owners[middle, middle]]


def _nearest(size: int, wanted: int) -> NDArray[np.int64]:
    """Which of `size` rows each of `wanted` rows comes from."""
    return np.minimum(((np.arange(wanted) + 0.5) * size / wanted).astype(np.int64), size - 1)
