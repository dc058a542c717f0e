"""Scenes as services receive pictures: at another scale, and stored as JPEG.

Drawn pixels are exact, received ones are not: without this the network takes the blocks and the blurred colours of a
small JPEG for the object's own.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.workbench.scenes.scene import Scene, SceneObject

_RESCALED = 1 / 3  # of the stored pictures
_SCALES = (0.6, 3.0)
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_QUALITIES = (40, 95)
_SUBSAMPLING = (0, 2)  # 4:4:4 and 4:2:0, as Pillow numbers them
_BLOCK = 16  # pixels: the side of what JPEG stores as one unit with 4:2:0
_MARGIN = 0.1  # of a box's side: an excerpt leaves room for a jittered box


@dataclass(frozen=True)
class Storage:
    """How a picture is stored. scale: of both sides. quality, subsampling: of the JPEG, as in Pillow."""

    scale: float
    filter: Image.Resampling
    quality: int
    subsampling: int


def draw_storage(rng: np.random.Generator, probability: float) -> Storage | None:
    """A random storage with this probability, else None for a picture that stays as it is."""
    if rng.random() >= probability:
        return None
    low, high = (math.log(scale) for scale in _SCALES)
    scale = math.exp(rng.uniform(low, high)) if rng.random() < _RESCALED else 1.0
    return Storage(
        scale,
        _FILTERS[int(rng.integers(len(_FILTERS)))],
        int(rng.integers(_QUALITIES[0], _QUALITIES[1] + 1)),
        _SUBSAMPLING[int(rng.integers(len(_SUBSAMPLING)))],
    )


def store(scene: Scene, storage: Storage) -> Scene:
    """The scene as it comes back from storage: other pixels, and boxes in pixels of the new image."""
    height, width = scene.image.shape[:2]
    picture = Image.fromarray(scene.image)
    size = max(1, round(width * storage.scale)), max(1, round(height * storage.scale))
    if size != picture.size:
        picture = picture.resize(size, storage.filter)
    ratio = size[0] / width, size[1] / height
    objects = tuple(replace(obj, box=_scaled(obj.box, ratio)) for obj in scene.objects)
    owner = Image.fromarray(scene.owner.view(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return replace(scene, image=_as_jpeg(picture, storage), objects=objects, owner=np.asarray(owner).view(np.int8))


def _as_jpeg(picture: Image.Image, storage: Storage) -> NDArray[np.uint8]:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=storage.quality, subsampling=storage.subsampling)
    return np.asarray(Image.open(file))


def _scaled(box: tuple[float, float, float, float], ratio: tuple[float, float]) -> tuple[float, float, float, float]:
    return box[0] * ratio[0], box[1] * ratio[1], box[2] * ratio[0], box[3] * ratio[1]


def excerpt(scene: Scene, obj: SceneObject) -> Scene:
    """The part of a scene around one object, with that object alone; cheap to store where only a close-up is needed.

    It begins at a block's corner and holds a block's margin, so that at scale 1 the object's pixels come back as they
    would from the stored scene.
    """
    height, width = scene.image.shape[:2]
    x1, y1, x2, y2 = obj.box
    across, down = (max(_BLOCK, _MARGIN * side) for side in (x2 - x1, y2 - y1))
    left, top = (max(0, int((start - room) // _BLOCK) * _BLOCK) for start, room in ((x1, across), (y1, down)))
    right, bottom = (
        min(end, math.ceil((stop + room) / _BLOCK) * _BLOCK)
        for stop, room, end in ((x2, across, width), (y2, down, height))
    )
    moved = replace(obj, box=(x1 - left, y1 - top, x2 - left, y2 - top))
    return replace(
        scene,
        image=np.ascontiguousarray(scene.image[top:bottom, left:right]),
        objects=(moved,),
        owner=np.where(scene.owner[top:bottom, left:right] == scene.objects.index(obj), 0, -1).astype(np.int8),
    )
