"""Dense captioning: mean average precision over thresholds of IoU and of METEOR.

The metric of DenseCap (Johnson et al., arXiv 1511.07571, section 4.3) as the released code of DynRefer computes it.
True boxes with an IoU of 0.7 or more are merged into one box with several references. Predicted boxes, best score
first, are matched to the merged box that they overlap most; each merged box is matched once. A prediction is correct at
a pair of thresholds if it was matched, its IoU reaches the one and its METEOR exceeds the other. Average precision
interpolates: the highest precision at or beyond each of the recalls 0, .01, ..., .99. The metric is the mean over the
5 x 6 pairs.

Shapes: G = true boxes, M = merged boxes, D = predicted boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.workbench.data.annotation_values import Id
from dynrefer.workbench.data.labelled import LabelledRegion
from dynrefer.workbench.evaluation.metrics.curves import Curve
from dynrefer.workbench.evaluation.predictions import DenseCaption

Floats = NDArray[np.float64]
# Captions and their references -> the score of the corpus, and one score per caption: `java.meteor_scores`.
Scorer = Callable[[Sequence[str], Sequence[Sequence[str]]], tuple[float, Floats]]

OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)
METEORS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
MERGE_OVERLAP = 0.7
RECALLS = np.arange(100) / 100


@dataclass(frozen=True)
class DenseCaptionMetrics:
    """mean: over the 30 pairs. boxes_alone: over the overlaps, ignoring captions. by_pair: (IoU, METEOR) -> average
    precision. curves: precision over recall per IoU threshold, at the middle METEOR threshold."""

    mean: float
    boxes_alone: float
    by_pair: Mapping[tuple[float, float], float]
    curves: Mapping[str, Curve]


@dataclass(frozen=True)
class _Matches:
    """For D predicted boxes, best first: IoU with the merged box that each overlaps most, whether it was matched to it,
    and METEOR against its references. truths: M."""

    overlap: Floats
    matched: NDArray[np.bool_]
    meteor: Floats
    truths: int


def dense_caption_metrics(
    truth: Sequence[LabelledRegion], found: Sequence[DenseCaption], scorer: Scorer
) -> DenseCaptionMetrics:
    """Compare predicted boxes with labelled ones, image by image.

    An image without labelled boxes is left out, as in the released code. One without predictions counts as missed; the
    released code leaves it out.
    """
    matches = _match(truth, found, scorer)
    by_pair = {}
    curves = {}
    for overlap in OVERLAPS:
        for meteor in METEORS:
            curve = _curve(matches, overlap, meteor)
            by_pair[overlap, meteor] = _average_precision(curve)
            if meteor == METEORS[len(METEORS) // 2]:
                curves[f"overlap {overlap:g}, METEOR {meteor:g}"] = curve
    alone = [_average_precision(_curve(matches, overlap, -1.0)) for overlap in OVERLAPS]
    return DenseCaptionMetrics(float(np.mean(list(by_pair.values()))), float(np.mean(alone)), by_pair, curves)


def _match(truth: Sequence[LabelledRegion], found: Sequence[DenseCaption], scorer: Scorer) -> _Matches:
    """Match the predicted boxes of each image, best score first, and score their captions."""
    true_of, found_of = _by_image(truth), _dense_by_image(found)
    rows: list[tuple[float, float, bool, str, Sequence[str]]] = []  # score, overlap, matched, caption, references
    truths = 0
    for image, regions in true_of.items():
        boxes, references = merged_boxes(
            np.array([region.box for region in regions]), [region.captions for region in regions]
        )
        truths += len(boxes)
        used: set[int] = set()
        described = sorted(found_of.get(image, ()), key=lambda each: -each.score)
        if not described:
            continue
        overlaps = box_overlaps(np.array([each.region.box for each in described]), boxes)
        for each, row in zip(described, overlaps, strict=True):
            best = int(row.argmax())
            touches = bool(row[best] > 0)
            matched = touches and best not in used
            used |= {best} if matched else set()
            rows.append((each.score, float(row[best]), matched, each.text, references[best] if touches else ()))
    rows.sort(key=lambda row: -row[0])
    _, meteor = scorer([row[3] for row in rows], [row[4] for row in rows])
    overlap = np.array([row[1] for row in rows])
    return _Matches(overlap, np.array([row[2] for row in rows], dtype=np.bool_), meteor, truths)


def _by_image(regions: Sequence[LabelledRegion]) -> dict[Id, list[LabelledRegion]]:
    found: dict[Id, list[LabelledRegion]] = {}
    for region in regions:
        found.setdefault(region.image, []).append(region)
    return found


def _dense_by_image(captions: Sequence[DenseCaption]) -> dict[Id, list[DenseCaption]]:
    found: dict[Id, list[DenseCaption]] = {}
    for each in captions:
        found.setdefault(each.region.image, []).append(each)
    return found


def merged_boxes(boxes: Floats, captions: Sequence[Sequence[str]]) -> tuple[Floats, list[tuple[str, ...]]]:
    """Merge boxes with an IoU of `MERGE_OVERLAP` or more: (G, 4) -> their means, (M, 4), and all their captions.

    Greedy: the box with the most such neighbours is merged with them first, and so on among the rest.
    """
    near = box_overlaps(boxes, boxes) >= MERGE_OVERLAP
    left = np.ones(len(boxes), dtype=np.bool_)
    means, texts = [], []
    while left.any():
        among = near & left[:, None] & left[None, :]
        members = np.flatnonzero(among[int(among.sum(axis=0).argmax())])
        means.append(boxes[members].mean(axis=0))
        texts.append(tuple(text for member in members.tolist() for text in captions[member]))
        left[members] = False
    return np.stack(means), texts


def box_overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of xyxy boxes, (D, 4) and (M, 4) -> (D, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    overlaps: Floats = shared / (areas[0][:, None] + areas[1][None, :] - shared)
    return overlaps


def _curve(matches: _Matches, overlap: float, meteor: float) -> Curve:
    right = matches.matched & (matches.overlap >= overlap) & (matches.meteor > meteor)
    hits = np.cumsum(right)
    return Curve(recall=hits / matches.truths, precision=hits / np.arange(1, len(right) + 1))


def _average_precision(curve: Curve) -> float:
    """Interpolated: the mean over `RECALLS` of the highest precision at or beyond each."""
    best_beyond = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    return float(best_beyond[np.searchsorted(curve.recall, RECALLS)].mean())
