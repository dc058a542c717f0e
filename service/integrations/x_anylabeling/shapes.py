"""The service's records -> the shapes that X-AnyLabeling draws."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from dynrefer.model import LIKELY, RegionMask, mask_outlines, simplified_outline
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.schemas import AttributeOut, DescribeResponse, MaskOut
from dynrefer.service.integrations.x_anylabeling import offer
from dynrefer.service.integrations.x_anylabeling.prediction import Prediction

# A shape that the program takes for unfinished: the next click replaces it, "Finish Object" asks for its label.
UNFINISHED = "AUTOLABEL_OBJECT"
LEAST_TOLERANCE = 1.0  # pixels; below it an outline is the stairs of the pixels' edges


def written_findings(prediction: Prediction, found: DetectResponse) -> bytes:
    """What was found, in the order of its scores."""
    shapes = []
    for region in found.regions:
        if prediction.params.filter_classes and region.label not in prediction.params.filter_classes:
            continue
        points = _points(prediction, region.box, region.mask)
        shapes.append(_shape(prediction, points, region.label, region.score, region))
    return _success({"shapes": shapes, "description": ""})


def written_descriptions(prediction: Prediction, answer: DescribeResponse) -> bytes:
    """What was said of the boxes that were drawn, of what was clicked on, or of the image."""
    regions: list[Any] = list(answer.regions)  # none failed: on_region_error is "fail"
    if prediction.task == offer.DESCRIBE_IMAGE:
        return _success({"shapes": [], "description": regions[0].caption.text, "replace": False})
    shapes = []
    for region in regions:
        best = region.categories[0]
        label = UNFINISHED if prediction.task == offer.OUTLINE_CLICKED else best.name
        shapes.append(_shape(prediction, _points(prediction, region.box, region.mask), label, best.probability, region))
    # What was drawn before stays: it is not what was asked about.
    return _success({"shapes": shapes, "description": "", "replace": False})


def _success(data: dict[str, Any]) -> bytes:
    return json.dumps({"success": True, "data": data}, ensure_ascii=False, allow_nan=False).encode()


def _points(prediction: Prediction, box: Sequence[float], mask: MaskOut | None) -> list[list[float]]:
    """A box's corners, or the outline of the largest part of its mask: a shape of the program is one ring."""
    outlines: Sequence[Sequence[float]] = ()
    if mask is not None and offer.TASKS[prediction.task].masks:
        outlines = mask_outlines(RegionMask(mask.size, mask.counts), 0)
    if outlines:
        tolerance = max(prediction.params.epsilon_factor * _length(_pairs(outlines[0])), LEAST_TOLERANCE)
        return _pairs(simplified_outline(outlines[0], tolerance))
    x1, y1, x2, y2 = box
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def _pairs(numbers: Sequence[float]) -> list[list[float]]:
    return [[x, y] for x, y in zip(numbers[0::2], numbers[1::2], strict=True)]


def _length(ring: Sequence[Sequence[float]]) -> float:
    return sum(math.dist(one, other) for one, other in pairwise([*ring, ring[0]]))


def _shape(prediction: Prediction, points: list[list[float]], label: str, score: float, region: Any) -> dict[str, Any]:
    outlined = offer.TASKS[prediction.task].masks
    return {
        "label": label,
        "shape_type": "polygon" if outlined else "rectangle",
        "points": points,
        "score": score,
        "attributes": _attributes(region.attributes or ()),
        "description": "" if region.caption is None else region.caption.text,
    }


def _attributes(given: Iterable[AttributeOut]) -> dict[str, str]:
    """The best value of each kind that is likely: the program has one value for each."""
    found: dict[str, str] = {}
    for each in given:
        if each.probability >= LIKELY:
            found.setdefault(each.type, each.value)
    return found
