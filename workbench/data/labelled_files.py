"""Evaluation's readers: an annotation file -> `LabelledData`, and the boxes of a detector on its images."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import Box, BoxFormat, corners_from
from dynrefer.model.types import Task
from dynrefer.workbench.data.annotation_values import (
    Id,
    bbox_of,
    flag_of,
    identifier_of,
    optional_number,
    shown,
    whole_number,
    whole_numbers,
)
from dynrefer.workbench.data.annotations import AnnotationReader, AnnotationRecord, AnnotationSource, BoxRule
from dynrefer.workbench.data.bad_samples import BadSample, BadSampleReport
from dynrefer.workbench.data.flickr_entities import read_entities
from dynrefer.workbench.data.json_files import read_json
from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.errors import BadSampleError, DataError


def read_labelled(
    path: Path,
    images: Path | None = None,
    *,
    box_format: BoxFormat | None = None,
    captions: Path | None = None,
    task: Task | None = None,
) -> LabelledData:
    """Read an annotation file, or a folder of Flickr30k Entities; box rule: `BoxRule.BBOX`.

    images: the folder of the images; default: the file's `dataset.image_root`, else the folder that the file is in.
    box_format: of `bbox`; default: xyxy where the annotation has `extra_info`, else xywh. captions: JSON lines, whose
    captions replace the annotations' own. task: only what it needs is read (CAPTION, ATTRIBUTES or CATEGORIES); None:
    all.

    Bad annotations are skipped and counted, as in training: those that `AnnotationReader` cannot read, those of a
    category that is not listed, those whose attributes do not match their names. Raises `TooManyBadSamplesError` if
    there are more than 1 %, and `DataError` for: an annotation's id, a category or an attribute that is given twice.
    """
    document = read_entities(path) if path.is_dir() else read_json(path)
    return _read(document, AnnotationSource(path, images, captions, box_format), task)


def _read(document: Any, source: AnnotationSource, task: Task | None) -> LabelledData:
    file, report = source.file, BadSampleReport(str(source.file), 0)
    reader = AnnotationReader(
        source,
        report,
        box_rule=BoxRule.BBOX,
        read_categories=task in (None, Task.CATEGORIES),
        document=document,
    )
    attributes = _listed_attributes(reader) if task in (None, Task.ATTRIBUTES) else []
    categories = _listed_categories(reader)
    regions: dict[Id, LabelledRegion] = {}
    for region in reader.annotations(partial(_region, task=task, num_attributes=len(attributes))):
        if region.id in regions:
            raise DataError(
                f"{file.name}: the id of annotation {shown(region.id)} is given twice; renumber one of the two, "
                "because predictions and captions name annotations by it."
            )
        regions[region.id] = region
    if source.captions:
        references: dict[Id | None, tuple[str, ...]] = {}
        for owner, texts in reader.caption_lines(lambda line: (line.id, line.captions)):
            references[owner] = references.get(owner, ()) + texts
        regions = {name: replace(region, captions=references.get(name, ())) for name, region in regions.items()}
    report.check()
    data = LabelledData(
        source=file.name,
        images={name: Path(image.path) for name, image in reader.images.items()},
        regions=(),
        attributes=tuple(attribute.name for attribute in attributes),
        groups={each.name: each.group for each in attributes if each.group},
        categories=_with_unlisted(categories, regions.values()),
        open_categories=not categories,
        sizes={name: image.size for name, image in reader.images.items() if image.size},
        skipped=report,
    )
    return data.keep(list(regions.values()), 'a box: its "annotations" are empty')


def read_proposals(path: Path, data: LabelledData) -> LabelledData:
    """The boxes of a detector on the images of `data`. Raises `DataError`.

    path: a COCO result file (a list of image_id, bbox as x, y, width, height, and score), or an annotation file with
    scores in the official layout. Bad ones are skipped and counted, as in `read_labelled`.
    """
    document = read_json(path)
    if isinstance(document, Mapping):
        found = _read(document, AnnotationSource(path), Task.CAPTION)
        regions, report = found.regions, found.skipped
        if any(region.score is None for region in regions):
            raise DataError(f"{path.name} has a box without a score; proposals need extra_info.grit_result.score.")
    elif isinstance(document, list):
        report = BadSampleReport(str(path), len(document))
        regions = tuple(_proposals(document, report))
        report.check()
    else:
        raise DataError(f"{path.name} is neither a COCO-style file nor a list of boxes.")
    for region in regions:
        if region.image not in data.images:
            raise DataError(f"{path.name}: image {region.image!r} is not among the images of {data.source}.")
    proposals = LabelledData(source=path.name, images=data.images, regions=(), sizes=data.sizes, skipped=report)
    return proposals.keep(regions, "a box")


def _proposals(entries: list[Any], report: BadSampleReport) -> Iterator[LabelledRegion]:
    for place, entry in enumerate(entries):
        try:
            yield _proposal(place, entry)
        except BadSampleError as error:
            report.add([BadSample(f"entry {place}", str(error))])


def _proposal(place: int, members: Any) -> LabelledRegion:
    """An entry of a COCO result file. Raises `BadSampleError`."""
    if not isinstance(members, dict):
        raise BadSampleError("it is not an object")
    image, bbox, score = identifier_of(members.get("image_id")), bbox_of(members.get("bbox")), members.get("score")
    if image is None or bbox is None or score is None:
        raise BadSampleError("it needs an image_id, a bbox and a score")
    number = optional_number(members, "score")
    try:
        box = Box(*corners_from(bbox, BoxFormat.XYWH)).corners
    except BoxError as error:
        raise BadSampleError(str(error).rstrip(".")) from error
    return LabelledRegion(id=place, image=image, box=box, score=number)


@dataclass(frozen=True, slots=True)
class _ListedAttribute:
    """An attribute "type:value/synonym"; its place in `att_vec` is that of its id among all ids."""

    id: int
    name: str
    group: str | None


def _listed_attributes(reader: AnnotationReader) -> list[_ListedAttribute]:
    """In the order of their ids; the official project lists them as `attrs`. Raises `DataError`."""
    source, member = reader.source.file.name, "attrs" if reader.document.get("attrs") else "attributes"
    entries = reader.document.get(member)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise DataError(f"{source}: {member} is not a list; correct or remove it.")
    found = []
    for place, entry in enumerate(entries):
        members = entry if isinstance(entry, dict) else {}
        name, group = members.get("name"), members.get("freq_set")
        if not isinstance(name, str) or not isinstance(group, str | None):
            raise DataError(f"{source}: {member}[{place}] needs a name, and its freq_set is a text or left out.")
        try:
            found.append(_ListedAttribute(whole_number(members.get("id")), name, group))
        except ValueError as error:
            raise DataError(f"{source}: {member}[{place}] ({name}) needs an id, a whole number.") from error
    _refuse_repeats(source, "attribute", [(each.id, each.name) for each in found])
    return sorted(found, key=lambda attribute: attribute.id)


def _region(record: AnnotationRecord, *, task: Task | None, num_attributes: int) -> LabelledRegion:
    """With the members that the task reads. Raises `BadSampleError`."""
    by_category = task in (None, Task.CATEGORIES)
    if by_category and record.category is None and record.category_id is not None:
        raise BadSampleError(f"its category {reprlib.repr(record.category_id)} is not among the file's categories")
    return LabelledRegion(
        id=record.name if record.id is None else record.id,
        image=record.image_id,
        box=record.box,
        captions=record.captions,
        category=record.category,
        attributes=_attributes(record.members, num_attributes) if task in (None, Task.ATTRIBUTES) else None,
        score=_score(record.members) if task in (None, Task.CAPTION) else None,
        crowd=flag_of(record.members, "iscrowd") if by_category else False,
    )


def _attributes(members: Mapping[str, Any], num_attributes: int) -> tuple[int, ...] | None:
    result = _result(members, "ovad_result")
    listed = members.get("att_vec") if result is None else result.get("att_vec")
    if listed is None:
        return None
    try:
        vector = whole_numbers(listed)
    except ValueError as error:
        raise BadSampleError("its att_vec is not a list of whole numbers") from error
    if len(vector) != num_attributes:
        raise BadSampleError(f"its att_vec holds {len(vector)} values but the file names {num_attributes} attributes")
    if not set(vector) <= {-1, 0, 1}:
        raise BadSampleError("its att_vec may hold 1 (present), 0 (absent) and -1 (unknown) only")
    return tuple(vector)


def _score(members: Mapping[str, Any]) -> float | None:
    result = _result(members, "grit_result")
    return optional_number(members if result is None else result, "score")


def _result(members: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """A member of `extra_info`; None where it is not there."""
    found = (members.get("extra_info") or {}).get(name)
    if found is not None and not isinstance(found, dict):
        raise BadSampleError(f"its extra_info.{name} is not an object")
    return found


def _listed_categories(reader: AnnotationReader) -> dict[str, int]:
    """Name -> id; COCO's own metric, which gets the ids, takes whole numbers only: texts are numbered. Raises
    `DataError`."""
    source = reader.source.file.name
    if reader.category_problems:
        raise DataError(f"{source}, {reader.category_problems[0]}.")
    _refuse_repeats(source, "category", [(category.id, category.name) for category in reader.categories])
    if all(isinstance(category.id, int) for category in reader.categories):
        return {category.name: int(category.id) for category in reader.categories}
    return {category.name: number for number, category in enumerate(reader.categories, start=1)}


def _refuse_repeats(source: str, what: str, listed: Iterable[tuple[Id, str]]) -> None:
    """Labels of one name would be scored as one."""
    ids: set[Id] = set()
    names: set[str] = set()
    for identifier, name in listed:
        if identifier in ids or name in names:
            raise DataError(f"{source}: {what} {name!r} (id {identifier}) repeats an id or a name listed before it.")
        ids.add(identifier)
        names.add(name)


def _with_unlisted(listed: Mapping[str, int], regions: Iterable[LabelledRegion]) -> dict[str, int]:
    """Name -> id. The official layout names categories without listing them; these get the next ids."""
    named = dict(listed)
    for region in regions:
        if region.category is not None:
            named.setdefault(region.category, max(named.values(), default=0) + 1)
    return named
