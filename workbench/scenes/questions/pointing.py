"""How an object of a drawn scene is pointed at: a box, a point or a scribble, drawn as a person would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from dynrefer.model.asking import Pointing
from dynrefer.model.points import PointPrompt
from dynrefer.model.prompts import Scribble
from dynrefer.model.types import Corners
from dynrefer.workbench.scenes.scene import Scene

FORMS = ("box", "point", "scribble")
_FREQUENCIES = (0.5, 0.25, 0.25)
_LOOSE = 0.04  # of a box's side: how far the hand errs, standard deviation
_STROKES = 5  # corners of a scribble
_ON_OBJECT = 0.7  # of a scribble's length, at least


def pointed_at(scene: Scene, index: int, random: np.random.Generator) -> Pointing:
    """What points at the object. A box is nearly its box; points and scribbles lie on pixels that show it."""
    choice = FORMS[int(random.choice(len(FORMS), p=_FREQUENCIES))]
    visible = scene.visible(index)
    if choice == "box" or visible.sum() < 30:
        return _loose_box(scene, index, random)
    if choice == "point":
        return _point(visible, random)
    return _scribble(visible, random) or _loose_box(scene, index, random)


def pointing_form(pointing: Pointing) -> str:
    """Which of `FORMS` it is."""
    if isinstance(pointing, PointPrompt):
        return "point"
    return "scribble" if isinstance(pointing, Scribble) else "box"


def _loose_box(scene: Scene, index: int, random: np.random.Generator) -> Corners:
    height, width = scene.image.shape[:2]
    x1, y1, x2, y2 = scene.objects[index].box
    error = np.clip(random.normal(0, _LOOSE, 4), -2 * _LOOSE, 2 * _LOOSE) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
    moved = np.array((x1, y1, x2, y2)) + error
    low_x, high_x = np.clip(moved[[0, 2]], 0, width)
    low_y, high_y = np.clip(moved[[1, 3]], 0, height)
    return round(float(low_x), 1), round(float(low_y), 1), round(float(high_x), 1), round(float(high_y), 1)


def _point(visible: NDArray[np.bool_], random: np.random.Generator) -> PointPrompt:
    """A pixel well within the object: one of those that lie deeper than half of its depth."""
    depth = np.asarray(distance_transform_edt(np.pad(visible, 1)))[1:-1, 1:-1]
    y, x = np.argwhere(depth >= 0.5 * depth.max())[int(random.integers((depth >= 0.5 * depth.max()).sum()))]
    return PointPrompt(float(x) + 0.5, float(y) + 0.5)


def _scribble(visible: NDArray[np.bool_], random: np.random.Generator) -> Scribble | None:
    """A line to and fro along the object, most of it on the object; None where none was found."""
    pixels = np.argwhere(visible)[:, ::-1].astype(float)  # x, y
    for _ in range(6):
        chosen = pixels[random.choice(len(pixels), _STROKES, replace=False)]
        low, high = pixels[pixels[:, 0].argmin()], pixels[pixels[:, 0].argmax()]
        along = np.concatenate(([low], chosen[chosen[:, 0].argsort()], [high])) + 0.5
        steps = np.linspace(0, len(along) - 1, 60)
        line = np.stack([np.interp(steps, np.arange(len(along)), along[:, axis]) for axis in (0, 1)], axis=1)
        if visible[line[:, 1].astype(int), line[:, 0].astype(int)].mean() >= _ON_OBJECT:
            return Scribble((tuple(round(float(value), 1) for value in along.ravel()),))
    return None
