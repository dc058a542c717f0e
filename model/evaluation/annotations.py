"""COCO-style annotation files -> labelled regions.

Two layouts are read, told apart by `extra_info`, which the official project adds to every annotation:
plain COCO (bbox = x, y, width, height) and the official one (segmentation first, else bbox = corners; attributes under
`extra_info.ovad_result.att_vec`, category under `extra_info.coco_result.category`, the detector's score under
`extra_info.grit_result.score`, the images' folder under `dataset.image_root`). docs/evaluation.md shows each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from model.errors import BoxError
from model.evaluation.errors import DataError
from model.evaluation.labelled import Id, LabelledData, LabelledRegion
from model.geometry import Box, BoxFormat, box_from_polygons, box_from_rle, corners_from
from model.records import Corners


class _Image(BaseModel):
    id: Id
    file_name: str


class _Category(BaseModel):
    id: int
    name: str


class _Attribute(BaseModel):
    id: int
    name: str
    freq_set: str | None = None


class _RunLengths(BaseModel):
    size: tuple[int, int]
    counts: str | list[int]


class _Score(BaseModel):
    score: float | None = None


class _AttributeResult(BaseModel):
    att_vec: list[int]


class _CategoryResult(BaseModel):
    category: str


class _ExtraInfo(BaseModel):
    ovad_result: _AttributeResult | None = None
    coco_result: _CategoryResult | None = None
    grit_result: _Score | None = None


class _Annotation(BaseModel):
    id: Id
    image_id: Id
    bbox: tuple[float, float, float, float] | None = None
    segmentation: list[list[float]] | _RunLengths | None = None
    caption: str | list[str] = Field(default_factory=list)
    category_id: int | None = None
    att_vec: list[int] | None = None
    score: float | None = None
    iscrowd: bool = False
    extra_info: _ExtraInfo | None = None


class _Dataset(BaseModel):
    image_root: str | None = None


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category] = Field(default_factory=list)
    attrs: list[_Attribute] = Field(default_factory=list)
    attributes: list[_Attribute] = Field(default_factory=list)
    dataset: _Dataset = Field(default_factory=_Dataset)


class _Proposal(BaseModel):
    image_id: Id
    bbox: tuple[float, float, float, float]
    score: float


_Model = TypeVar("_Model", bound=BaseModel)


def read_data(path: Path, images: Path | None = None) -> LabelledData:
    """Read a COCO-style file.

    images: the folder of the images; default: the file's `dataset.image_root`, else the folder that the file lies in.
    Raises `DataError`: no such file, not JSON, a missing or malformed member, an annotation of an unknown image, an id
    given twice, attributes that do not match their names.
    """
    file = _valid(_File, _read_json(path), path.name)
    root = images or (path.parent / file.dataset.image_root if file.dataset.image_root else path.parent)
    attributes = sorted(file.attrs or file.attributes, key=lambda attribute: attribute.id)
    categories = {category.id: category.name for category in file.categories}
    found = {image.id: root / image.file_name for image in file.images}
    regions: dict[Id, LabelledRegion] = {}
    for each in file.annotations:
        where = f"{path.name}, annotation {each.id!r}"
        if each.image_id not in found:
            raise DataError(f"{where}: image {each.image_id!r} is not among the file's images.")
        if each.id in regions:
            raise DataError(f"{where}: this id is given twice.")
        regions[each.id] = _region(each, categories, len(attributes), where)
    named = {name: place for place, name in categories.items()}
    for region in regions.values():  # the official layout names categories without listing them
        if region.category is not None:
            named.setdefault(region.category, max(named.values(), default=0) + 1)
    data = LabelledData(
        source=path.name,
        images=found,
        regions=(),
        attributes=tuple(attribute.name for attribute in attributes),
        groups={each.name: each.freq_set for each in attributes if each.freq_set},
        categories=named,
    )
    return data.keep(list(regions.values()), 'a box: its "annotations" are empty')


def read_proposals(path: Path, data: LabelledData) -> LabelledData:
    """The boxes of a detector on the images of `data`: a COCO result file (a list of image_id, bbox as x, y, width,
    height, and score), or an annotation file with scores in the official layout. Raises `DataError`."""
    raw = _read_json(path)
    if isinstance(raw, Mapping):
        regions = read_data(path).regions
        if any(region.score is None for region in regions):
            raise DataError(f"{path.name} has a box without a score; proposals need extra_info.grit_result.score.")
    else:
        listed = [_valid(_Proposal, each, f"{path.name}, entry {place}") for place, each in enumerate(_list(raw, path))]
        regions = tuple(
            LabelledRegion(
                id=place,
                image=each.image_id,
                box=_checked(corners_from(each.bbox, BoxFormat.XYWH), f"{path.name}, entry {place}"),
                score=each.score,
            )
            for place, each in enumerate(listed)
        )
    for region in regions:
        if region.image not in data.images:
            raise DataError(f"{path.name}: image {region.image!r} is not among the images of {data.source}.")
    proposals = LabelledData(source=path.name, images=data.images, regions=())
    return proposals.keep(regions, "a box")


def _region(each: _Annotation, categories: Mapping[int, str], attributes: int, where: str) -> LabelledRegion:
    extra = each.extra_info or _ExtraInfo()
    category = extra.coco_result.category if extra.coco_result else None
    if category is None and each.category_id is not None:
        if each.category_id not in categories:
            raise DataError(f"{where}: category {each.category_id} is not among the file's categories.")
        category = categories[each.category_id]
    vector = extra.ovad_result.att_vec if extra.ovad_result else each.att_vec
    if vector is not None and len(vector) != attributes:
        raise DataError(f"{where}: att_vec holds {len(vector)} values but the file names {attributes} attributes.")
    if vector is not None and not set(vector) <= {-1, 0, 1}:
        raise DataError(f"{where}: att_vec may hold 1 (present), 0 (absent) and -1 (unknown) only.")
    return LabelledRegion(
        id=each.id,
        image=each.image_id,
        box=_box(each, where),
        captions=tuple([each.caption] if isinstance(each.caption, str) else each.caption),
        category=category,
        attributes=None if vector is None else tuple(vector),
        score=extra.grit_result.score if extra.grit_result else each.score,
        crowd=each.iscrowd,
    )


def _box(each: _Annotation, where: str) -> Corners:
    """The official layout means the segmentation, plain COCO its bbox; each falls back on the other."""
    official = each.extra_info is not None
    if each.bbox is not None and not (official and each.segmentation):
        return _checked(corners_from(each.bbox, BoxFormat.XYXY if official else BoxFormat.XYWH), where)
    if not each.segmentation:
        raise DataError(f"{where}: it has neither a bbox nor a segmentation.")
    try:
        if isinstance(each.segmentation, _RunLengths):
            return _checked(box_from_rle(each.segmentation.model_dump()), where)
        return _checked(box_from_polygons(each.segmentation), where)
    except BoxError as error:
        raise DataError(f"{where}: {error}") from error


def _checked(corners: Corners, where: str) -> Corners:
    try:
        return Box(*corners).corners
    except BoxError as error:
        raise DataError(f"{where}: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8 or not JSON
        raise DataError(f"{path} is not valid JSON: {error}.") from error


def _list(raw: Any, path: Path) -> Sequence[Any]:
    if not isinstance(raw, list):
        raise DataError(f"{path.name} is neither a COCO-style file nor a list of boxes.")
    return raw


def _valid(model: type[_Model], raw: Any, where: str) -> _Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataError(f"{where}: {place}: {first['msg'].lower()}.") from error
