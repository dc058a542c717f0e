"""COCO's mean average precision of recognition with given boxes.

As in the released code, each true box goes to COCO's evaluation with the model's best category and its raw score. All
overlaps are 1, so this measures the ranking of the scores per category, with at most 100 boxes per image.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynrefer.workbench.data.labelled import LabelledData
from dynrefer.workbench.evaluation.metrics.curves import Curve

Floats = NDArray[np.float64]


def coco_map(data: LabelledData, scores: Floats) -> tuple[float, dict[str, float], Curve]:
    """COCO's AP for the regions of `data`, each with its best category; scores: (R, K), raw.

    Returns the mean over the categories that occur, the average precision of each, and the mean precision-recall curve.
    """
    images = {image: place for place, image in enumerate(data.by_image, 1)}
    ids = list(data.categories.values())
    best = scores.argmax(axis=1)
    boxes = [_xywh(region.box) for region in data.regions]
    truth = [
        {
            "id": row + 1,  # 0 means "not matched" to COCO's evaluation
            "image_id": images[region.image],
            "category_id": data.categories[region.category or ""],
            "bbox": boxes[row],
            "area": boxes[row][2] * boxes[row][3],
            "iscrowd": 0,
        }
        for row, region in enumerate(data.regions)
    ]
    found = [
        {
            "image_id": images[region.image],
            "category_id": ids[best[row]],
            "bbox": boxes[row],
            "score": float(scores[row, best[row]]),
        }
        for row, region in enumerate(data.regions)
    ]
    # (recalls, K), -1 where a category is absent; COCO's evaluation sorts the categories by id
    precision = _precision(truth, found, sorted(images.values()), ids)[:, np.argsort(np.argsort(ids))]
    occurs: NDArray[np.bool_] = np.all(precision >= 0, axis=0)
    average = precision[:, occurs].mean(axis=0)
    names = [name for name, occurring in zip(data.categories, occurs.tolist(), strict=True) if occurring]
    curve = Curve(np.linspace(0, 1, len(precision)), precision[:, occurs].mean(axis=1))
    return float(average.mean()), dict(zip(names, average.tolist(), strict=True)), curve


def _precision(truth: list[dict[str, Any]], found: list[dict[str, Any]], images: list[int], ids: list[int]) -> Floats:
    """Precision, (recalls, K), the mean over COCO's ten overlaps; all areas, at most 100 boxes per image."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in images],
            "categories": [{"id": each} for each in ids],
            "annotations": truth,
        }
        coco.createIndex()
        measured = COCOeval(coco, coco.loadRes(found), "bbox")
        measured.params.catIds = ids
        measured.params.areaRng, measured.params.areaRngLbl = measured.params.areaRng[:1], ["all"]
        measured.evaluate()
        measured.accumulate()
    by_overlap = measured.eval["precision"][:, :, :, 0, -1]  # (overlaps, recalls, K)
    precision: Floats = by_overlap.mean(axis=0)
    return precision


def _xywh(box: tuple[float, float, float, float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
