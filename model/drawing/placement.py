"""Where labels stand: beside their boxes, never over each other, never outside the image.

Each label has places around its box, nearest first; where all are taken it goes to the nearest free place anywhere.
Labels are placed one after another, those of small boxes first; then each is taken out and placed again, now that it is
known where the others are. Both keep the two rules, so they hold at any time.
Boxes and places are (x1, y1, x2, y2) float64, pixels. P = places, L = labels that stand, B = boxes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.types import Corners

Boxes = NDArray[np.float64]

_ROUNDS = 2  # so often is each label placed again
_STEPS = 7  # places along a side of a box
_NEAREST = 64  # free places away from a box that are compared
# What is bad about a place, as costs: each label-height of distance; hiding of the label's own box, as a part of the
# box; another box's edge under the label, and standing in another box, where it may be taken for that one's.
_DISTANCE, _OWN_HIDDEN, _EDGE, _FOREIGN = 1.0, 6.0, 1.5, 0.5
_OUTSIDE_FIRST, _ASTRIDE = 0.35, 0.8  # standing in its own box rather than beside it; on its edge


def place_labels(
    boxes: Sequence[Corners], sizes: Sequence[tuple[float, float]], canvas: tuple[float, float], gap: float = 2.0
) -> list[Corners | None]:
    """A place for each label. boxes: of what is labelled. sizes: (width, height) of the labels. canvas: (W, H).

    gap: least room between two labels, and between a label and its box. None for a label that has no room.
    No two places overlap, and each lies in the canvas.
    """
    around = np.asarray(boxes, np.float64).reshape(-1, 4)
    places: list[Corners | None] = [None] * len(sizes)
    areas = (around[:, 2] - around[:, 0]) * (around[:, 3] - around[:, 1])
    order = np.argsort(areas, kind="stable").tolist()
    for again in range(1 + _ROUNDS):
        for index in order:
            before, places[index] = places[index], None
            found = _best_place(index, around, sizes[index], canvas, _standing(places), gap)
            places[index] = before if found is None else found
        if again and None in places:
            break
    return places


def touches(place: Corners, box: Corners, gap: float) -> bool:
    """Whether a label stands at its box, or in it, so that nothing needs to connect them."""
    near = gap + 1.0
    beside = place[0] - box[2] <= near and box[0] - place[2] <= near
    return beside and place[1] - box[3] <= near and box[1] - place[3] <= near


def nearest_points(place: Corners, box: Corners) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of the shortest line from a label to its box."""
    ends = []
    for low, high in ((0, 2), (1, 3)):
        if place[high] < box[low]:
            ends.append((place[high], box[low]))
        elif place[low] > box[high]:
            ends.append((place[low], box[high]))
        else:
            middle = (max(place[low], box[low]) + min(place[high], box[high])) / 2
            ends.append((middle, middle))
    (x1, x2), (y1, y2) = ends
    return (x1, y1), (x2, y2)


def _standing(places: Sequence[Corners | None]) -> Boxes:
    return np.asarray([place for place in places if place is not None], np.float64).reshape(-1, 4)


def _best_place(
    index: int,
    boxes: Boxes,
    size: tuple[float, float],
    canvas: tuple[float, float],
    standing: Boxes,
    gap: float,
) -> Corners | None:
    """The least bad free place beside the box or in it, else the free one nearest to it anywhere."""
    beside = _inside(_places_at(boxes[index], size, gap), size, canvas)
    free = beside[~_overlapping(beside, standing, gap).any(axis=1)]
    if not len(free):
        free = _nearest_free(boxes[index], size, canvas, standing, gap)
    if not len(free):
        return None
    x1, y1, x2, y2 = free[int(np.argmin(_costs(free, index, boxes, size)))].tolist()
    return x1, y1, x2, y2


def _places_at(box: Boxes, size: tuple[float, float], gap: float) -> Boxes:
    """(P, 4): above, below, at both sides, and within the corners."""
    width, height = size
    x1, y1, x2, y2 = box.tolist()
    along_x = np.linspace(x1, max(x2 - width, x1), _STEPS)
    along_y = np.linspace(y1, max(y2 - height, y1), _STEPS)
    corners = [(x, y1 - height - gap) for x in along_x] + [(x, y2 + gap) for x in along_x]
    corners += [(x2 + gap, y) for y in along_y] + [(x1 - width - gap, y) for y in along_y]
    corners += [(x, y1 + gap) for x in along_x + gap] + [(x, y2 - height - gap) for x in along_x + gap]
    return _with_size(np.asarray(corners), size)


def _nearest_free(
    box: Boxes, size: tuple[float, float], canvas: tuple[float, float], standing: Boxes, gap: float
) -> Boxes:
    """(P, 4): the free places nearest to a box, of a grid over the canvas whose step is half a label's height."""
    xs, ys = (_steps(canvas[side] - size[side], size[1] / 2) for side in (0, 1))
    if not len(xs) or not len(ys):
        return np.empty((0, 4))
    # A label blocks the places that overlap it both across and down; counted for all of them as a product.
    across = (xs[:, None] < standing[:, 2] + gap) & (standing[:, 0] < xs[:, None] + size[0] + gap)
    down = (ys[:, None] < standing[:, 3] + gap) & (standing[:, 1] < ys[:, None] + size[1] + gap)
    blocked = down.astype(np.float32) @ across.T.astype(np.float32) > 0
    rows, columns = np.nonzero(~blocked)
    places = _with_size(np.stack([xs[columns], ys[rows]], axis=1), size)
    return places[np.argsort(_distances(places, box), kind="stable")[:_NEAREST]]


def _steps(room: float, step: float) -> NDArray[np.float64]:
    """From 0 to the room, the last one included; nothing where there is none."""
    return np.linspace(0.0, room, max(2, int(room / max(step, 2.0)) + 1)) if room >= 0 else np.empty(0)


def _with_size(corners: Boxes, size: tuple[float, float]) -> Boxes:
    return np.concatenate([corners, corners + np.asarray(size)], axis=1)


def _inside(places: Boxes, size: tuple[float, float], canvas: tuple[float, float]) -> Boxes:
    """Those that lie in the canvas, after a shift into it by less than their size."""
    width, height = size
    if width > canvas[0] or height > canvas[1]:
        return places[:0]
    moved = places[:, :2].clip(0.0, (canvas[0] - width, canvas[1] - height))
    near = (np.abs(moved - places[:, :2]) < (width, height)).all(axis=1)
    return _with_size(moved[near], size)


def _overlapping(places: Boxes, others: Boxes, gap: float = 0.0) -> NDArray[np.bool_]:
    """(P, L): whether a place is nearer to another than the gap."""
    a, b = places[:, None], others[None]
    across = (a[..., 0] < b[..., 2] + gap) & (b[..., 0] < a[..., 2] + gap)
    return np.asarray(across & (a[..., 1] < b[..., 3] + gap) & (b[..., 1] < a[..., 3] + gap))


def _distances(places: Boxes, box: Boxes) -> NDArray[np.float64]:
    """(P,) pixels between places and a box."""
    apart = np.maximum(0.0, np.maximum(places[:, :2] - box[2:], box[:2] - places[:, 2:]))
    return np.hypot(apart[:, 0], apart[:, 1])


def _costs(places: Boxes, index: int, boxes: Boxes, size: tuple[float, float]) -> NDArray[np.float64]:
    """(P,)"""
    box = boxes[index]
    distance = _distances(places, box) / size[1]
    # From the top left corner, where a label is looked for; counts little.
    from_corner = np.hypot(places[:, 0] - box[0], (places[:, 3] - box[1]) * 2) / (size[0] + size[1])
    over = np.minimum(places[:, None, 2:], boxes[None, :, 2:]) - np.maximum(places[:, None, :2], boxes[None, :, :2])
    shared = over.clip(min=0.0).prod(axis=2)  # (P, B) pixels
    own_area = max(float((box[2] - box[0]) * (box[3] - box[1])), 1.0)
    hidden = _OWN_HIDDEN * shared[:, index] / own_area + _OUTSIDE_FIRST * (shared[:, index] > 0)
    part = shared / (size[0] * size[1])
    hidden += _ASTRIDE * ((part[:, index] > 0.0) & (part[:, index] < 0.999))
    part[:, index] = 0.0
    edges = ((part > 0.0) & (part < 0.999)).sum(axis=1)
    within = (part >= 0.999).sum(axis=1)
    return np.asarray(
        _DISTANCE * distance
        + 0.12 * np.minimum(from_corner, 8.0)
        + hidden
        + _EDGE * np.minimum(edges, 4)
        + _FOREIGN * np.minimum(within, 4)
    )
