"""A second witness for what ImageNet lacks: NanoDet-g, trained on COCO's scenes, asked what a region's box holds.

ImageNet has no person, and its pictures show one thing each; COCO's 80 names come from crowded scenes. The detector
runs on windows around one region (`windows.py`), and the boxes that cover the region speak for their names: a name's
support is the highest score x fit of any box, where the fit grows with the overlap of the two boxes
(intersection over union). Made by `workbench/evidence/detector.py`, whose metadata in the file say from what.

Shapes: N = windows, M = points of the three grids, each with a box and a score per name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import WeightsError
from dynrefer.model.evidence.session import first_run, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# fmt: off
COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on

STRIDES = (8, 16, 32)  # pixels between the points of a grid
BINS = 11  # of a distance from a point to a side of its box, in strides: 0..10

_INPUT, _OUTPUTS = "windows", ("scores", "distances")
_NO_FIT, _FULL_FIT = 0.2, 0.7  # overlaps; a box below the one says nothing of the region, from the other on all


class EvidenceDetector:
    """The network in memory. Calls from several threads are allowed; each takes up to `threads` cores."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    @classmethod
    def load(cls, path: Path, threads: int) -> EvidenceDetector:
        """path: the .onnx file. threads: of one call, the caller's included.

        Raises `ModelNotFoundError` if there is no such file, `WeightsError` if it is damaged or of another network.
        """
        session = open_session(path, threads, "evidence detector")
        inputs = [(each.name, each.type, each.shape[1:2]) for each in session.get_inputs()]
        outputs = [(each.name, each.shape[2:]) for each in session.get_outputs()]
        expected = [(_OUTPUTS[0], [len(COCO_NAMES)]), (_OUTPUTS[1], [4 * BINS])]
        if inputs != [(_INPUT, "tensor(uint8)", [3])] or outputs != expected:
            raise WeightsError(f"{str(path)!r} is not an evidence detector: its inputs or outputs have other shapes.")
        side = max(STRIDES)
        points = sum((side // stride) ** 2 for stride in STRIDES)
        shapes = {name: (1, points, width) for name, (width,) in outputs}
        first_run(session, {_INPUT: np.zeros((1, 3, side, side), dtype=np.uint8)}, shapes, path)
        return cls(session)

    def run(self, windows: NDArray[np.uint8], regions: NDArray[np.float32]) -> NDArray[np.float32]:
        """windows: (N, 3, S, S) uint8 RGB, S a multiple of 32, N >= 0. regions: (N, 4) float32 xyxy, window pixels.

        Returns each name's support, (N, 80) float32 in 0..1, in the order of `COCO_NAMES`; not a probability.
        The network sees one window per call, so that a window's numbers do not depend on the others.
        """
        supports = np.empty((len(windows), len(COCO_NAMES)), dtype=np.float32)
        for place, window, region in zip(supports, windows, regions, strict=True):
            place[:] = support(*self.look(window), region)
        return supports

    def look(self, window: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """All that the network sees in a window: scores (M, 80) in 0..1, and boxes (M, 4) xyxy in pixels of the window.

        window: (3, H, W) uint8 RGB, H and W multiples of 32.
        """
        scores, distances = self._session.run(_OUTPUTS, {_INPUT: np.ascontiguousarray(window[None])})
        return scores[0], decode(distances[0], window.shape[-2:])


def decode(distances: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The points' boxes: (M, 44) float32 -> (M, 4) float32 xyxy, pixels of a window of this (height, width).

    A distance is the mean of a distribution over `BINS`, as in Generalized Focal Loss (arXiv 2006.04388); the four
    point left, up, right, down.
    """
    logits = distances.reshape(-1, 4, BINS)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    means = (weights * np.arange(BINS, dtype=np.float32)).sum(-1) / weights.sum(-1)
    points, strides = _grids(size)
    reach = means * strides
    boxes = np.concatenate([points - reach[:, :2], points + reach[:, 2:]], axis=1)
    height, width = size
    return np.asarray(np.clip(boxes, 0, np.array([width, height] * 2, np.float32)), dtype=np.float32)


def _grids(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (M, 2) as x and y in pixels, and their strides (M, 1)."""
    points, strides = [], []
    for stride in STRIDES:
        down, across = ((np.arange(side // stride, dtype=np.float32) + 0.5) * stride for side in size)
        x, y = np.meshgrid(across, down)
        points.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((x.size, 1), stride, dtype=np.float32))
    return np.concatenate(points), np.concatenate(strides)


def support(
    scores: NDArray[np.float32], boxes: NDArray[np.float32], region: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(M, 80), (M, 4) and (4,) float32 -> (80,) float32: the highest score x fit of each name."""
    fit = np.clip((overlaps(boxes, region) - _NO_FIT) / (_FULL_FIT - _NO_FIT), 0, 1)
    near = fit > 0
    if not near.any():
        return np.zeros(scores.shape[1], dtype=np.float32)
    highest: NDArray[np.float32] = (scores[near] * fit[near, None]).max(axis=0).astype(np.float32)
    return highest


def overlaps(boxes: NDArray[np.float32], region: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes (M, 4) with one region (4,), both xyxy -> (M,) float32."""
    low, high = np.maximum(boxes[:, :2], region[:2]), np.minimum(boxes[:, 2:], region[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(areas + (region[2:] - region[:2]).prod() - shared, 1e-6), dtype=np.float32)


def combine(supports: NDArray[np.float32]) -> NDArray[np.float32]:
    """The supports of a region's windows, (..., W, 80) float32, as one: their geometric mean, (..., 80) float32.

    A name needs the word of every window: of the wrong names, most are one window's alone.
    """
    return np.asarray(np.prod(supports, axis=-2) ** np.float32(1 / supports.shape[-2]), dtype=np.float32)
