"""Boxes that overlap so much that they are one object. Shapes: N = boxes, xyxy of any one frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of (N, 4) with (M, 4) -> (N, M) float32."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    union = areas[:, None] + other_areas[None] - shared
    return np.asarray(shared / np.maximum(union, 1e-6), dtype=np.float32)


def averaged(boxes: Floats, scores: Floats, kept: NDArray[np.int64], limit: float) -> Floats:
    """The boxes that were kept, each the mean of all boxes (N, 4) that overlap it by more than `limit`, weighted by
    their scores (N,): box voting (Gidaris and Komodakis, 2015)."""
    weights = (overlaps(boxes[kept], boxes) > limit) * scores[None]
    totals = weights.sum(axis=1, keepdims=True)
    return np.where(totals > 0, weights @ boxes / np.maximum(totals, 1e-9), boxes[kept]).astype(np.float32)


def suppress(boxes: Floats, scores: Floats, limit: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: which boxes stay, best score first; of equal scores the earlier box is better.

    boxes: (N, 4), scores: (N,). limit: a box that overlaps a better one by more goes.
    """
    order = np.argsort(-scores, kind="stable")
    shared = overlaps(boxes, boxes)
    left = np.ones(len(boxes), dtype=bool)
    kept = []
    for index in order.tolist():
        if left[index]:
            kept.append(index)
            left &= shared[index] <= limit
    return np.array(kept, dtype=np.int64)
