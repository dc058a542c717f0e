"""The service's records -> results of Label Studio: a list of items, of which those with the same id are one region."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dynrefer.model import RegionMask, bitmap_from_mask, mask_from_bitmap, mask_outlines
from dynrefer.service.api.detect_schemas import DetectResponse, FoundRegionOut
from dynrefer.service.api.schemas import DescribeResponse, ImageOut, MaskOut, RegionOut
from dynrefer.service.integrations.label_studio.brushes import write_brush
from dynrefer.service.integrations.label_studio.drawn import Drawn
from dynrefer.service.integrations.label_studio.labeling import Answer, Fills, Labeling, Shape, Word
from dynrefer.service.integrations.label_studio.questions import (
    WRITTEN_KINDS,
    attribute_type,
    folded,
    words_of,
    written_shapes,
)

Item = dict[str, Any]
# Of a result's value, what says where the region is.
GEOMETRY = ("x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "closed", "format", "rle")
DECIMALS = 4  # of parts of a hundred: a hundredth of a pixel of an image of 10,000


@dataclass(frozen=True, slots=True)
class Prediction:
    """items: the results. probabilities: calibrated, of what was found or chosen; empty where nothing has one."""

    items: list[Item]
    probabilities: list[float]

    def document(self, model_version: str) -> dict[str, Any]:
        """What /predict answers about one task. Its score is the mean of the probabilities, absent where there are
        none."""
        score = {"score": round(fmean(self.probabilities), 4)} if self.probabilities else {}
        return {"result": self.items, **score, "model_version": model_version}


def found_results(response: DetectResponse, labeling: Labeling) -> Prediction:
    """Of each region that was found: its shape, with its label, and what the controls take of its description."""
    items, probabilities = [], []
    shapes = written_shapes(labeling)
    for region in response.regions:
        shape, word = _shape_for(region.label, shapes, labeling)
        head = _head(labeling, response.image, secrets.token_urlsafe(8))
        geometry = _geometry(shape, region, response.image)
        items += _shape_items(head, shape, word, geometry, labeling, region.probability)
        answered, _ = _answered(head, geometry, labeling.of_regions, region)
        items += answered
        probabilities.append(region.probability)
    return Prediction(items, probabilities)


def described_results(
    response: DescribeResponse, drawn: Sequence[Drawn], labeling: Labeling, said: Sequence[Any] = ()
) -> Prediction:
    """The regions that somebody drew, as they were, each with what the controls take of its description; in the place
    of a point, the object that it lies on, where a control draws such.

    said: results that stay: of a region that has one of a control, that control's is not made anew. A region that
    could not be described stands alone.
    """
    items: list[Item] = []
    probabilities: list[float] = []
    stays = {(each.get("id"), each.get("from_name")): each for each in said if isinstance(each, dict)}
    for region, given in zip(response.regions, drawn, strict=True):
        own = {name: value for name, value in given.item.items() if name not in ("score", "meta")}
        if not isinstance(region, RegionOut):
            items.append(own)
            continue
        head = _head(labeling, response.image, given.id)
        geometry = {name: given.item["value"][name] for name in GEOMETRY if name in given.item["value"]}
        shape = _shape_of_object(given, labeling)
        if shape is None:
            items.append({**own, "id": given.id})
        else:
            head = {**head, "id": secrets.token_urlsafe(8)}
            geometry = _geometry(shape, region, response.image)
            word = next((each for each in shape.words if each.stored in _labels_of(given)), None)
            items += _shape_items(head, shape, word, geometry, labeling, None)
        asked = [each for each in labeling.of_regions if (given.id, each.name) not in stays]
        kept = [stays[given.id, each.name] for each in labeling.of_regions if (given.id, each.name) in stays]
        items += [{**item, "id": head["id"]} for item in kept]
        answered, found = _answered(head, geometry, asked, region)
        items += answered
        probabilities += found
    return Prediction(items, probabilities)


def _shape_of_object(given: Drawn, labeling: Labeling) -> Shape | None:
    """The control that draws the object at a point: one with the point's label, or without labels; None where there is
    none, and of everything but points."""
    if given.kind != "keypoint":
        return None
    labels = _labels_of(given)
    fitting = (each for each in written_shapes(labeling) if {word.stored for word in each.words} & labels)
    return next(
        fitting, next((each for each in labeling.shapes if not each.words and each.kind in WRITTEN_KINDS), None)
    )


def _labels_of(given: Drawn) -> set[Any]:
    labels = given.item["value"].get(given.item["type"])
    return {each for each in labels if isinstance(each, str)} if isinstance(labels, list) else set()


def image_results(response: DescribeResponse, labeling: Labeling) -> Prediction:
    """What the controls take of the description of the whole image."""
    region = response.regions[0]
    if not isinstance(region, RegionOut):
        return Prediction([], [])
    head = _head(labeling, response.image, secrets.token_urlsafe(8))
    items, probabilities = _answered(head, {}, labeling.of_image, region)
    return Prediction([{**item, "id": secrets.token_urlsafe(8)} for item in items], probabilities)


def _head(labeling: Labeling, image: ImageOut, name: str) -> Item:
    size = {"original_width": image.width, "original_height": image.height}
    return {"id": name, "to_name": labeling.image, **size, "image_rotation": 0}


def _shape_for(label: str, shapes: Sequence[Shape], labeling: Labeling) -> tuple[Shape, Word | None]:
    """The control that has this label, and the label."""
    for shape in shapes:
        for word in words_of(shape, labeling):
            if folded(word.name) == folded(label):
                return shape, word
    return shapes[0], None


def _shape_items(
    head: Item, shape: Shape, word: Word | None, geometry: Item, labeling: Labeling, probability: float | None
) -> list[Item]:
    """The shape; its label stands in the same item, or, of the control `Labels`, in one beside it. probability: None
    where somebody else chose the label."""
    labels = {} if word is None or not shape.words else {shape.type: [word.stored]}
    score = {} if probability is None else {"score": probability}
    items = [{**head, "from_name": shape.name, "type": shape.type, "value": {**geometry, **labels}, **score}]
    if word is not None and not shape.words and labeling.labels is not None:
        value = {**geometry, "labels": [word.stored]}
        items.append({**head, "from_name": labeling.labels.name, "type": "labels", "value": value, **score})
    return items


def _geometry(shape: Shape, region: RegionOut | FoundRegionOut, image: ImageOut) -> Item:
    """A region as the control draws it; without a mask a polygon or a brush gets its box."""
    x1, y1, x2, y2 = region.box
    left, top = _part(x1, image.width), _part(y1, image.height)
    if shape.kind == "rectangle":
        size = {"width": _part(x2 - x1, image.width), "height": _part(y2 - y1, image.height)}
        return {"x": left, "y": top, **size, "rotation": 0}
    mask = _mask(region.mask, image, region.box)
    if shape.kind == "brush":
        return {"format": "rle", "rle": write_brush(bitmap_from_mask(mask))}
    # Label Studio's polygons have one ring: that of the largest part.
    ring = next(iter(mask_outlines(mask)), (x1, y1, x2, y1, x2, y2, x1, y2))
    points = [[_part(x, image.width), _part(y, image.height)] for x, y in zip(ring[::2], ring[1::2], strict=True)]
    return {"points": points, "closed": True}


def _mask(mask: MaskOut | None, image: ImageOut, box: Sequence[float]) -> RegionMask:
    if mask is not None:
        return RegionMask(mask.size, mask.counts)
    bitmap = np.zeros((image.height, image.width), dtype=np.bool_)
    x1, y1, x2, y2 = (round(each) for each in box)
    bitmap[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
    return mask_from_bitmap(bitmap)


def _part(value: float, whole: int) -> float:
    return round(100 * value / whole, DECIMALS)


def _answered(
    head: Item, geometry: Item, answers: Iterable[Answer], region: RegionOut | FoundRegionOut
) -> tuple[list[Item], list[float]]:
    """An item for each control that the description says something for, and the probabilities of what was chosen."""
    items, probabilities = [], []
    for answer in answers:
        value, probability = _value(answer, region)
        if value is None:
            continue
        item = {**head, "from_name": answer.name, "type": answer.type, "value": {**geometry, **value}}
        if probability is not None:
            item["score"] = probability
            probabilities.append(probability)
        items.append(item)
    return items, probabilities


def _value(answer: Answer, region: RegionOut | FoundRegionOut) -> tuple[Item | None, float | None]:
    """(what the control's result has, its probability where it has one); (None, None) where it has nothing."""
    chosen = _chosen(answer, region)
    if answer.type == "textarea":
        texts = [name for name, _ in chosen]
        return ({"text": texts}, chosen[0][1]) if texts else (None, None)
    by_name: Mapping[str, Word] = {folded(word.name.split("/")[0]): word for word in reversed(answer.words)}
    words = [(by_name[folded(name)], probability) for name, probability in chosen if folded(name) in by_name]
    if not words:
        return None, None
    words = words if answer.many else words[:1]
    stored = [list(word.path) if answer.type == "taxonomy" else word.stored for word, _ in words]
    return {answer.type: stored}, words[0][1]


def _chosen(answer: Answer, region: RegionOut | FoundRegionOut) -> list[tuple[str, float | None]]:
    """Names with their probabilities, the best first."""
    if answer.fills is Fills.CAPTION:
        caption = region.caption
        return [(caption.text, caption.probability)] if caption is not None and caption.text else []
    if answer.fills is Fills.CATEGORY:
        found = [(each.name, each.probability) for each in region.categories or () if each.level is None]
        return found if answer.words else found[:1]
    if answer.fills is Fills.TAGS:
        return [(each.name, each.probability) for each in region.tags or ()]
    if not answer.words:
        return [(each.name, each.probability) for each in region.attributes or ()]
    asked = folded(attribute_type(answer))
    return [(each.value, each.probability) for each in region.attributes or () if folded(each.type) == asked]
