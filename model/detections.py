"""Results as the detections of other libraries: Roboflow's supervision and Voxel51's FiftyOne.

They take what `describe` and `detect` return, of a model in this process as of a service. The libraries are imported
here and nowhere else, when they are needed: `pip install 'dynrefer[supervision]'`, `'dynrefer[fiftyone]'`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynrefer.model.errors import ImageError
from dynrefer.model.finding import FoundRegion
from dynrefer.model.geometry import ImageSize
from dynrefer.model.masks import RegionMask, bitmap_from_mask
from dynrefer.model.types import LIKELY, Corners, RegionDescription

if TYPE_CHECKING:
    import fiftyone as fo
    import supervision as sv

NO_SIZE = "these results do not know how large their image is; give its size as size=(width, height)."


@dataclass(frozen=True, slots=True)
class _Region:
    """What both libraries have a place for. None: nothing is known of it, because it was not asked for."""

    box: Corners
    name: str | None
    probability: float | None
    score: float | None
    mask: RegionMask | None
    caption: str | None
    tags: tuple[str, ...] | None
    attributes: tuple[str, ...] | None


def to_supervision(
    regions: Iterable[RegionDescription | FoundRegion],
    *,
    names: Sequence[str] | None = None,
    least_probability: float = LIKELY,
) -> sv.Detections:
    """`supervision.Detections` of regions that were described or found, in their order.

    xyxy: (N, 4) float32, pixels. confidence: the calibrated probability of the name. mask: (N, H, W) bool, where every
    region has one. class_id: the name's place in `names`; without them, names are numbered as they first appear.
    data: `class_name`, `score` (that thresholds of a search apply to), `caption`, `tags` and `attributes` (a tuple of
    names each), whatever was asked for. least_probability: of a tag or attribute that is taken over.

    Raises ModuleNotFoundError without supervision, ValueError for a name that is not among `names`.
    """
    sv = _imported("supervision")
    listed = [_region(each, least_probability) for each in regions]
    data: dict[str, Any] = {}
    class_id = None
    if all(each.name is not None for each in listed):
        found = [str(each.name) for each in listed]
        known = list(dict.fromkeys(found)) if names is None else list(names)
        if strange := set(found) - set(known):
            raise ValueError(f"'{min(strange)}' is not among the names {', '.join(known)}.")
        class_id = np.array([known.index(name) for name in found], dtype=np.int64)
        data["class_name"] = np.array(found, dtype=str)
    if listed and all(each.caption is not None for each in listed):
        data["caption"] = np.array([each.caption for each in listed], dtype=str)
    for member in ("score", "tags", "attributes"):
        values = [getattr(each, member) for each in listed]
        if listed and all(value is not None for value in values):
            data[member] = np.array(values, dtype=np.float32) if member == "score" else _objects(values)
    masks = [bitmap_from_mask(each.mask) for each in listed if each.mask is not None]
    probabilities = [each.probability for each in listed]
    return sv.Detections(
        xyxy=np.array([each.box for each in listed], dtype=np.float32).reshape(-1, 4),
        mask=np.stack(masks) if masks and len(masks) == len(listed) else None,
        confidence=None if None in probabilities else np.array(probabilities, dtype=np.float32),
        class_id=class_id,
        data=data,
    )


def to_fiftyone(
    regions: Iterable[RegionDescription | FoundRegion],
    size: ImageSize | None,
    *,
    least_probability: float = LIKELY,
) -> fo.Detections:
    """`fiftyone.Detections` of regions that were described or found, in their order; no database is needed.

    size: (width, height) of the image that the boxes are in pixels of. Each detection has `label`, `bounding_box`
    (parts of the image), `confidence` (the calibrated probability of the label), `mask` (inside of its box), and as
    fields of its own `score`, `caption`, `tag_names` and `attribute_names`, whatever was asked for; FiftyOne's own
    `tags` are the annotators'. least_probability: of a tag or attribute that is taken over.

    Raises ModuleNotFoundError without FiftyOne, `ImageError` without a size.
    """
    fo = _imported("fiftyone")
    if size is None:
        raise ImageError(NO_SIZE)
    detections = []
    for given in regions:
        region = _region(given, least_probability)
        more = {
            "score": region.score,
            "caption": region.caption,
            "tag_names": None if region.tags is None else list(region.tags),
            "attribute_names": None if region.attributes is None else list(region.attributes),
        }
        detection = fo.Detection(
            label=region.name,
            bounding_box=_relative(region.box, size),
            confidence=region.probability,
            mask=None if region.mask is None else _inside(region.box, region.mask),
            **{name: value for name, value in more.items() if value is not None},
        )
        detections.append(detection)
    return fo.Detections(detections=detections)


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        advice = f"This needs the package {package}: pip install 'dynrefer[{package}]' adds it."
        raise ModuleNotFoundError(advice, name=package) from None


def _region(region: RegionDescription | FoundRegion, least: float) -> _Region:
    if isinstance(region, FoundRegion):
        description, score = region.description, region.score
        named: tuple[str | None, float | None] = region.label, region.probability
    else:
        description, score, named = region, None, _name(region)
    caption = None if description is None else description.caption
    return _Region(
        region.box,
        *named,
        score,
        region.mask,
        None if caption is None else caption.text,
        None if description is None else _likely(description.tags, least),
        None if description is None else _likely(description.attributes, least),
    )


def _name(region: RegionDescription) -> tuple[str | None, float | None]:
    """What a described region's object is called, and how probably rightly: its best category, else the noun of its
    caption, else its best tag."""
    if region.categories:
        return region.categories[0].name, region.categories[0].probability
    if region.caption is not None and region.caption.name is not None:
        return region.caption.name, region.caption.probability
    if region.tags:
        return region.tags[0].name, region.tags[0].probability
    return None, None


def _likely(labels: Iterable[Any] | None, least: float) -> tuple[str, ...] | None:
    return None if labels is None else tuple(each.name for each in labels if each.probability >= least)


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """(N,) of whatever; tuples of one length would become a second axis."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _relative(box: Corners, size: ImageSize) -> list[float]:
    """x, y, width, height as parts of the image."""
    (x1, y1, x2, y2), (width, height) = box, size
    return [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]


def _inside(box: Corners, mask: RegionMask) -> np.ndarray[Any, Any]:
    """The part of a mask inside of its box, at least a pixel."""
    bitmap = bitmap_from_mask(mask)
    (x1, y1, x2, y2), (height, width) = box, bitmap.shape
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    return bitmap[top : max(round(y2), top + 1), left : max(round(x2), left + 1)]
