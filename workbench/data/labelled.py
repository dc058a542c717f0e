"""Labelled regions of real images, as evaluation sees an annotation file: what is true of each region.

Shapes: R = regions, A = attributes.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from dynrefer.model.errors import AnnotatedImageError, BoxError
from dynrefer.model.geometry import Box, BoxFormat, ImageSize, corners_from
from dynrefer.model.images import annotated_pixels
from dynrefer.model.types import Corners, Task
from dynrefer.workbench.data.annotation_values import Id
from dynrefer.workbench.data.annotations import AnnotationReader, AnnotationRecord, AnnotationSource, BoxRule
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.data.json_files import first_problem, read_json, validated
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.errors import BadSampleError, DataError


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """One region. box: xyxy pixels in the frame of `annotated_pixels`. Members that are not known are None or empty.

    captions: the references. attributes: 1, 0, or -1 where unknown, in the order of `LabelledData.attributes`.
    score: of the detector that proposed the box. aliases: ids of other annotations of the same box.
    """

    id: Id
    image: Id
    box: Corners
    captions: tuple[str, ...] = ()
    category: str | None = None
    attributes: tuple[int, ...] | None = None
    score: float | None = None
    crowd: bool = False
    aliases: tuple[Id, ...] = ()


@dataclass(frozen=True)
class LabelledData:
    """The R regions of a file, grouped by image; fulfils `evaluation.inference.Regions`.

    source: the file's name, for messages. images: id -> file. attributes: names, "type:value/synonym". groups: name
    -> "head", "medium" or "tail", where the file lists it. categories: name -> id; open_categories: the file lists
    none, so these are only the ones that occur. sizes: id of an image -> (width, height), where the file lists it.
    """

    source: str
    images: Mapping[Id, Path]
    regions: tuple[LabelledRegion, ...]
    attributes: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, int] = field(default_factory=dict)
    open_categories: bool = False
    sizes: Mapping[Id, ImageSize] = field(default_factory=dict)

    @property
    def names(self) -> dict[Task, tuple[str, ...]]:
        """The names of attributes and categories, of the tasks for which the file has any."""
        known = {Task.ATTRIBUTES: self.attributes, Task.CATEGORIES: tuple(self.categories)}
        return {task: names for task, names in known.items() if names}

    def __len__(self) -> int:
        """R."""
        return len(self.regions)

    @cached_property
    def by_image(self) -> dict[Id, list[LabelledRegion]]:
        """The regions of each image that has any."""
        found: dict[Id, list[LabelledRegion]] = {}
        for region in self.regions:
            found.setdefault(region.image, []).append(region)
        return found

    def image_regions(self) -> Iterator[ImageRegions]:
        """The images that have regions, each read on demand."""
        for image, regions in self.by_image.items():
            path = self.images[image]
            yield ImageRegions(
                partial(_read_pixels, path, self.sizes.get(image)), tuple(region.box for region in regions), path.name
            )

    def check_images(self) -> None:
        """Raise `DataError` for a missing image file, before any work is done."""
        for image in self.by_image:
            path = self.images[image]
            if not path.is_file():
                raise DataError(
                    f"image {image!r} of {self.source}: no file {path}; name the folder of the images with --images."
                )

    def keep(self, regions: Sequence[LabelledRegion], missing: str) -> LabelledData:
        """The same data with other regions. Raises `DataError` naming what is `missing` if there are none."""
        if not regions:
            raise DataError(f"{self.source} has no region with {missing}.")
        order = {image: place for place, image in enumerate(dict.fromkeys(region.image for region in regions))}
        return replace(self, regions=tuple(sorted(regions, key=lambda region: order[region.image])))

    def competing(self, names: Iterable[str]) -> LabelledData:
        """The same data; if the file lists no categories, `names` are candidates too.

        Among the few categories that occur in a small file, the right one would be too easy to find.
        """
        if not self.open_categories:
            return self
        known = dict.fromkeys([*names, *self.categories])
        return replace(self, categories={name: place for place, name in enumerate(known, 1)})

    def sample(self, count: int) -> LabelledData:
        """About `count` regions: those of whole images, in a fixed random order, until there are enough."""
        images = list(self.by_image)
        kept: list[LabelledRegion] = []
        for place in np.random.default_rng(0).permutation(len(images)):
            if len(kept) >= count:
                break
            kept += self.by_image[images[place]]
        return self.keep(kept, "an image")

    @cached_property
    def category_targets(self) -> NDArray[np.int64]:
        """(R,) columns of the true categories."""
        column = {name: place for place, name in enumerate(self.categories)}
        return np.array([column[region.category or ""] for region in self.regions], dtype=np.int64)

    @cached_property
    def attribute_targets(self) -> NDArray[np.int8]:
        """(R, A): 1, 0, or -1 where unknown."""
        return np.array([region.attributes for region in self.regions], dtype=np.int8)


def read_labelled(
    path: Path, images: Path | None = None, *, box_format: BoxFormat | None = None, captions: Path | None = None
) -> LabelledData:
    """Read an annotation file; box rule: `BoxRule.BBOX`.

    images: the folder of the images; default: the file's `dataset.image_root`, else the folder that the file is in.
    box_format: of `bbox`; default: xyxy where the annotation has `extra_info`, else xywh. captions: JSON lines, whose
    captions replace the annotations' own.
    Raises `DataError` for the first record that `AnnotationReader` cannot read, and for: an annotation without an id,
    an id or a name given twice, a category that is not listed, attributes that do not match their names.
    """
    reader = AnnotationReader(AnnotationSource(path, images, captions, box_format), box_rule=BoxRule.BBOX)
    listed = validated(_ListedAttributes, reader.document, path.name)
    attributes = sorted(listed.attrs or listed.attributes, key=lambda attribute: attribute.id)
    _refuse_repeats(path.name, "attribute", [(each.id, each.name) for each in attributes])
    categories = _listed_categories(reader)
    regions: dict[Id, LabelledRegion] = {}

    def take(record: AnnotationRecord) -> LabelledRegion:
        region = _region(record, len(attributes))
        if region.id in regions:
            raise BadSampleError("this id is given twice")
        return region

    for region in reader.annotations(take):
        regions[region.id] = region
    if captions:
        references: dict[Id | None, tuple[str, ...]] = {}
        for owner, texts in reader.caption_lines(lambda line: (line.id, line.captions)):
            references[owner] = references.get(owner, ()) + texts
        regions = {name: replace(region, captions=references.get(name, ())) for name, region in regions.items()}
    data = LabelledData(
        source=path.name,
        images={name: Path(image.path) for name, image in reader.images.items()},
        regions=(),
        attributes=tuple(attribute.name for attribute in attributes),
        groups={each.name: each.freq_set for each in attributes if each.freq_set},
        categories=_with_unlisted(categories, regions.values()),
        open_categories=not categories,
        sizes={name: image.size for name, image in reader.images.items() if image.size},
    )
    return data.keep(list(regions.values()), 'a box: its "annotations" are empty')


def read_proposals(path: Path, data: LabelledData) -> LabelledData:
    """The boxes of a detector on the images of `data`. Raises `DataError`.

    path: a COCO result file (a list of image_id, bbox as x, y, width, height, and score), or an annotation file with
    scores in the official layout.
    """
    raw = read_json(path)
    if isinstance(raw, Mapping):
        regions = read_labelled(path).regions
        if any(region.score is None for region in regions):
            raise DataError(f"{path.name} has a box without a score; proposals need extra_info.grit_result.score.")
    elif isinstance(raw, list):
        regions = tuple(_proposal(place, each, path.name) for place, each in enumerate(raw))
    else:
        raise DataError(f"{path.name} is neither a COCO-style file nor a list of boxes.")
    for region in regions:
        if region.image not in data.images:
            raise DataError(f"{path.name}: image {region.image!r} is not among the images of {data.source}.")
    proposals = LabelledData(source=path.name, images=data.images, regions=(), sizes=data.sizes)
    return proposals.keep(regions, "a box")


class _ListedAttribute(BaseModel):
    """An attribute "type:value/synonym"; its place in `att_vec` is that of its id among all ids."""

    id: int
    name: str
    freq_set: str | None = None


class _ListedAttributes(BaseModel):
    """The attributes of a file: the official project says `attrs`."""

    attrs: list[_ListedAttribute] = Field(default_factory=list)
    attributes: list[_ListedAttribute] = Field(default_factory=list)


class _Score(BaseModel):
    score: float | None = None


class _AttributeResult(BaseModel):
    att_vec: list[int]


class _ExtraInfo(BaseModel):
    ovad_result: _AttributeResult | None = None
    grit_result: _Score | None = None


class _Labels(BaseModel):
    """The members of an annotation that evaluation alone reads."""

    att_vec: list[int] | None = None
    score: float | None = None
    iscrowd: bool = False
    extra_info: _ExtraInfo | None = None


class _Proposal(BaseModel):
    """One entry of a COCO result file: bbox = x, y, width, height."""

    image_id: Id
    bbox: tuple[float, float, float, float]
    score: float


def _region(record: AnnotationRecord, num_attributes: int) -> LabelledRegion:
    if record.id is None:
        raise BadSampleError("it needs an id, a whole number or a text")
    if record.category is None and record.category_id is not None:
        raise BadSampleError(f"its category {reprlib.repr(record.category_id)} is not among the file's categories")
    try:
        labels = _Labels.model_validate(record.members)
    except ValidationError as error:
        raise BadSampleError(first_problem(error)) from error
    extra = labels.extra_info or _ExtraInfo()
    vector = extra.ovad_result.att_vec if extra.ovad_result else labels.att_vec
    if vector is not None and len(vector) != num_attributes:
        raise BadSampleError(f"att_vec holds {len(vector)} values but the file names {num_attributes} attributes")
    if vector is not None and not set(vector) <= {-1, 0, 1}:
        raise BadSampleError("att_vec may hold 1 (present), 0 (absent) and -1 (unknown) only")
    return LabelledRegion(
        id=record.id,
        image=record.image_id,
        box=record.box,
        captions=record.captions,
        category=record.category,
        attributes=None if vector is None else tuple(vector),
        score=extra.grit_result.score if extra.grit_result else labels.score,
        crowd=labels.iscrowd,
    )


def _proposal(place: int, raw: Any, source: str) -> LabelledRegion:
    where = f"{source}, entry {place}"
    found = validated(_Proposal, raw, where)
    try:
        box = Box(*corners_from(found.bbox, BoxFormat.XYWH)).corners
    except BoxError as error:
        raise DataError(f"{where}: {error}") from error
    return LabelledRegion(id=place, image=found.image_id, box=box, score=found.score)


def _listed_categories(reader: AnnotationReader) -> dict[str, int]:
    """Name -> id; COCO's own metric, which gets the ids, takes whole numbers only."""
    source = reader.source.file.name
    for category in reader.categories:
        if not isinstance(category.id, int):
            raise DataError(f"{source}: category {category.name!r} has the id {category.id!r}; use whole numbers.")
    _refuse_repeats(source, "category", [(category.id, category.name) for category in reader.categories])
    return {category.name: category.id for category in reader.categories if isinstance(category.id, int)}


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


def captioned(data: LabelledData, *, blank: bool = False) -> LabelledData:
    """The regions with captions; annotations of one image with the same box become one region with several references.

    RefCOCOg has such annotations. Raises `DataError` for a caption without a word, which is a bad sample in training
    too; with `blank` such captions are allowed, because the boxes of Visual Genome's empty phrases are to be detected.
    """
    merged: dict[tuple[Id, Corners], LabelledRegion] = {}
    for region in data.regions:
        if not blank and not all(clean_caption(caption) for caption in region.captions):
            raise DataError(
                f"{data.source}, annotation {region.id!r}: its caption is blank; write one, or leave the caption out."
            )
        if region.captions:
            key = (region.image, region.box)
            first = merged.get(key)
            merged[key] = (
                region
                if first is None
                else replace(first, captions=first.captions + region.captions, aliases=(*first.aliases, region.id))
            )
    return data.keep(list(merged.values()), "a caption; --task captions and dense-captions need them")


def with_attributes(data: LabelledData) -> LabelledData:
    """The regions whose attributes are known."""
    if not data.attributes:
        raise DataError(f'{data.source} names no attributes; --task attributes needs a top-level "attrs" list.')
    return data.keep([r for r in data.regions if r.attributes is not None], '"att_vec"; --task attributes needs it')


def with_categories(data: LabelledData) -> LabelledData:
    """The regions of single objects with a category, without crowds."""
    return data.keep(
        [r for r in data.regions if r.category is not None and not r.crowd], "a category; --task recognition needs it"
    )


def _read_pixels(path: Path, listed: ImageSize | None) -> NDArray[np.uint8]:
    try:
        return annotated_pixels(path, listed)
    except AnnotatedImageError as error:
        raise DataError(f"{error}.") from error
