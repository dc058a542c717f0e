"""COCO-style annotation files -> labelled regions.

Two layouts are read, told apart by `extra_info`, which the official project adds to every annotation:
plain COCO (bbox = x, y, width, height) and the official one (segmentation first, else bbox = corners; attributes under
`extra_info.ovad_result.att_vec`, category under `extra_info.coco_result.category`, the detector's score under
`extra_info.grit_result.score`, the images' folder under `dataset.image_root`). docs/evaluation.md shows each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import Box, BoxFormat, box_from_polygons, box_from_rle, corners_from, usual_box_format
from dynrefer.model.types import Corners
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.data.json_files import read_json, read_lines, valid
from dynrefer.workbench.data.labelled import Id, LabelledData, LabelledRegion
from dynrefer.workbench.data.layouts import (
    Annotation,
    AnnotationFile,
    CaptionLine,
    ExtraInfo,
    ListedAttribute,
    ListedCategory,
    Proposal,
    RunLengths,
)
from dynrefer.workbench.errors import DataError


def read_data(
    path: Path, images: Path | None = None, *, box_format: BoxFormat | None = None, captions: Path | None = None
) -> LabelledData:
    """Read a COCO-style file.

    images: the folder of the images; default: the file's `dataset.image_root`, else the folder that the file lies in.
    box_format: of `bbox`; default: xyxy where the annotation has `extra_info`, else xywh. captions: JSON lines, as
    training takes them, whose captions stand in place of the annotations' own.
    Raises `DataError`: no such file, not JSON, a missing or malformed member, an annotation of an unknown image, an id
    or a name given twice, attributes that do not match their names, a caption of no annotation or without a word.
    """
    file = valid(AnnotationFile, read_json(path), path.name)
    root = images or (path.parent / file.dataset.image_root if file.dataset.image_root else path.parent)
    attributes = sorted(file.attrs or file.attributes, key=lambda attribute: attribute.id)
    _refuse_repeats(path.name, "attribute", attributes)
    _refuse_repeats(path.name, "category", file.categories)
    found = {image.id: root / image.file_name for image in file.images}
    categories = {category.id: category.name for category in file.categories}
    regions: dict[Id, LabelledRegion] = {}
    for each in file.annotations:
        where = f"{path.name}, annotation {each.id!r}"
        if each.image_id not in found:
            raise DataError(f"{where}: image {each.image_id!r} is not among the file's images.")
        if each.id in regions:
            raise DataError(f"{where}: this id is given twice.")
        regions[each.id] = _region(each, categories, len(attributes), box_format, where)
    if captions:
        written = _read_captions(captions, regions, path.name)
        regions = {name: replace(region, captions=written.get(name, ())) for name, region in regions.items()}
    data = LabelledData(
        source=path.name,
        images=found,
        regions=(),
        attributes=tuple(attribute.name for attribute in attributes),
        groups={each.name: each.freq_set for each in attributes if each.freq_set},
        categories=_category_ids(file.categories, regions.values()),
        open_categories=not file.categories,
        sizes={image.id: image.size for image in file.images if image.size},
    )
    return data.keep(list(regions.values()), 'a box: its "annotations" are empty')


def read_proposals(path: Path, data: LabelledData) -> LabelledData:
    """The boxes of a detector on the images of `data`: a COCO result file (a list of image_id, bbox as x, y, width,
    height, and score), or an annotation file with scores in the official layout. Raises `DataError`."""
    raw = read_json(path)
    if isinstance(raw, Mapping):
        regions = read_data(path).regions
        if any(region.score is None for region in regions):
            raise DataError(f"{path.name} has a box without a score; proposals need extra_info.grit_result.score.")
    else:
        listed = [valid(Proposal, each, f"{path.name}, entry {place}") for place, each in enumerate(_list(raw, path))]
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
    proposals = LabelledData(source=path.name, images=data.images, regions=(), sizes=data.sizes)
    return proposals.keep(regions, "a box")


def _read_captions(path: Path, known: Mapping[Id, LabelledRegion], source: str) -> dict[Id, tuple[str, ...]]:
    """The lines of each annotation, in their order."""
    found: dict[Id, tuple[str, ...]] = {}
    for where, raw in read_lines(path):
        line = valid(CaptionLine, raw, where)
        if line.annotation_id not in known:
            raise DataError(f"{where}: annotation_id {line.annotation_id!r} is not among the annotations of {source}.")
        if not clean_caption(line.caption):
            raise DataError(f"{where}: its caption is blank; write one, or leave the line out.")
        found[line.annotation_id] = (*found.get(line.annotation_id, ()), line.caption)
    return found


def _refuse_repeats(source: str, what: str, listed: Iterable[ListedAttribute | ListedCategory]) -> None:
    """Labels of one name would be scored as one."""
    ids: set[int] = set()
    names: set[str] = set()
    for each in listed:
        if each.id in ids or each.name in names:
            raise DataError(f"{source}: {what} {each.name!r} (id {each.id}) repeats an id or a name listed before it.")
        ids.add(each.id)
        names.add(each.name)


def _category_ids(listed: Iterable[ListedCategory], regions: Iterable[LabelledRegion]) -> dict[str, int]:
    """Name -> id. The official layout names categories without listing them; these are counted on."""
    named = {category.name: category.id for category in listed}
    for region in regions:
        if region.category is not None:
            named.setdefault(region.category, max(named.values(), default=0) + 1)
    return named


def _region(
    each: Annotation, categories: Mapping[int, str], attributes: int, box_format: BoxFormat | None, where: str
) -> LabelledRegion:
    extra = each.extra_info or ExtraInfo()
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
        box=_box(each, box_format, where),
        captions=tuple([each.caption] if isinstance(each.caption, str) else each.caption),
        category=category,
        attributes=None if vector is None else tuple(vector),
        score=extra.grit_result.score if extra.grit_result else each.score,
        crowd=each.iscrowd,
    )


def _box(each: Annotation, box_format: BoxFormat | None, where: str) -> Corners:
    """The official layout means the segmentation, plain COCO its bbox; each falls back on the other."""
    official = each.extra_info is not None
    if each.bbox is not None and not (official and each.segmentation):
        return _checked(corners_from(each.bbox, box_format or usual_box_format(official=official)), where)
    if not each.segmentation:
        raise DataError(f"{where}: it has neither a bbox nor a segmentation.")
    try:
        if isinstance(each.segmentation, RunLengths):
            return _checked(box_from_rle(each.segmentation.model_dump()), where)
        return _checked(box_from_polygons(each.segmentation), where)
    except BoxError as error:
        raise DataError(f"{where}: {error}") from error
    except OverflowError as error:
        raise DataError(f"{where}: its segmentation holds a number beyond 64 bits.") from error


def _checked(corners: Corners, where: str) -> Corners:
    try:
        return Box(*corners).corners
    except BoxError as error:
        raise DataError(f"{where}: {error}") from error


def _list(raw: Any, path: Path) -> Sequence[Any]:
    if not isinstance(raw, list):
        raise DataError(f"{path.name} is neither a COCO-style file nor a list of boxes.")
    return raw
