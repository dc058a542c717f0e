"""The one reader of annotation files: COCO-style JSON -> typed records, for training, evaluation and batch jobs.

Two layouts are read, told apart by `extra_info`, which the official project adds to every annotation:

- plain COCO: `bbox` is x, y, width, height; the category is that of `category_id`;
- the official layout: the box is that of `segmentation`, else `bbox` is two corners; the category may be named in
  `extra_info.coco_result`, and the folder of the images in `dataset.image_root`.

Captions are in the annotations, or in a JSONL file beside them. docs/evaluation.md and docs/training.md show each form.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import Box, BoxFormat, ImageSize, corners_from, usual_box_format
from dynrefer.model.types import Corners
from dynrefer.workbench.data.annotation_values import (
    Id,
    are_texts,
    bbox_of,
    captions_of,
    check_text,
    identifier_of,
    listed_size,
    segmentation_box,
    shown,
)
from dynrefer.workbench.data.bad_samples import BadSample, BadSampleReport
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.data.json_files import read_json, read_text_lines
from dynrefer.workbench.data.listed_files import listed_path
from dynrefer.workbench.errors import BadSampleError, DataError

_T = TypeVar("_T")


class BoxRule(StrEnum):
    """Which member is the box of a plain COCO annotation that has both; where it has one, that is the box.

    In the official layout it is always the segmentation. A segmentation that gives no box counts as none where there
    is a bbox.
    """

    SEGMENTATION = "segmentation"  # training
    BBOX = "bbox"  # evaluation: COCO's own metrics are defined on `bbox`


@dataclass(frozen=True)
class AnnotationSource:
    """What to read. images: the folder of the images; None: `dataset.image_root`, seen from the file's folder.

    captions: JSONL with `annotation_id` and `caption`. box_format: of `bbox`; None: xyxy beside `extra_info`, else
    xywh.
    """

    file: Path
    images: Path | None = None
    captions: Path | None = None
    box_format: BoxFormat | None = None


@dataclass(frozen=True, slots=True)
class ListedImage:
    """path: of the file. size: the (width, height) in pixels that the annotations list, or None.

    name: of the file, as it is listed.
    """

    path: str
    size: ImageSize | None
    name: str


@dataclass(frozen=True, slots=True)
class ListedCategory:
    """An entry of `categories`."""

    id: Id
    name: str


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """One annotation, or one line of captions with the annotation that it belongs to.

    name: for messages; no two records of a file share it. id: None where the annotation has none.
    box: xyxy pixels in the frame of the annotations (`frames`), neither inverted nor empty, not yet clipped.
    captions: of the annotation, or of the line; as written, perhaps blank. tags: names that the line lists.
    category: None where it is not read, or the annotation has none or one that the file does not list; then category_id
    tells these apart.
    members: the annotation as the file has it, for members that a single use reads.
    """

    name: str
    id: Id | None
    image_id: Id
    image: ListedImage
    box: Corners
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    category: str | None
    category_id: object
    members: Mapping[str, Any]


class AnnotationReader:
    """One annotation file, and the stream of its records.

    box_rule: see `BoxRule`. report: where bad records are counted and named; they are skipped. What is wrong with an
    entry of `images` is a matter of the annotations that refer to it. require_images: refuse a file if neither the
    source nor the file names the folder of the images; otherwise it is the folder of the file. read_categories: False:
    nothing that has to do with categories is read. document: the file's content, if it was read before.

    category_problems: why entries of `categories` cannot be used; what refers to them has no category.

    Raises `DataError` if the file as a whole cannot be used, two images of one id among the reasons.
    """

    def __init__(
        self,
        source: AnnotationSource,
        report: BadSampleReport,
        *,
        box_rule: BoxRule,
        require_images: bool = False,
        read_categories: bool = True,
        document: Any = None,
    ) -> None:
        self.source, self._box_rule, self._report = source, box_rule, report
        self.document = _checked_document(source.file, read_json(source.file) if document is None else document)
        self._folder = source.images or self._listed_folder(required=require_images)
        self.images: dict[Id, ListedImage] = {}
        self._bad_images: dict[Id, str] = {}
        self._list_images()
        self._read_categories = read_categories
        self.category_problems: list[str] = []
        self.categories = list(self._listed_categories()) if read_categories else []
        self._category_names: dict[Id, str] = {}
        self._ambiguous_categories: set[Id] = set()
        for category in self.categories:
            if self._category_names.setdefault(category.id, category.name) != category.name:
                self._ambiguous_categories.add(category.id)

    def annotations(self, take: Callable[[AnnotationRecord], _T]) -> Iterator[_T]:
        """`take` applied to the record of every annotation, in the order of the file. It may raise `BadSampleError`."""
        for name, members in _named(self.document["annotations"]):
            yield from self._attempt(name, partial(self._record, name, members), take)

    def caption_lines(self, take: Callable[[AnnotationRecord], _T]) -> Iterator[_T]:
        """As `annotations`, for every line of the captions file; several lines may belong to one annotation."""
        assert self.source.captions is not None
        by_id, repeated = self._by_id()
        for number, line in read_text_lines(self.source.captions):
            name = f"line {number} of {self.source.captions.name}"
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                yield from self._attempt(name, partial(_refuse, "it is not valid JSON"), take)
                continue
            identifier = entry.get("annotation_id") if isinstance(entry, dict) else None
            name = f"{name} (annotation {shown(identifier)})"
            yield from self._attempt(name, partial(self._line_record, name, entry, by_id, repeated), take)

    def _attempt(
        self, name: str, make: Callable[[], AnnotationRecord], take: Callable[[AnnotationRecord], _T]
    ) -> Iterator[_T]:
        """The value, or nothing if the record is bad."""
        self._report.total += 1
        try:
            found = take(make())
        except BadSampleError as error:
            self._report.add([BadSample(name, str(error))])
        else:
            yield found

    def _by_id(self) -> tuple[dict[Id, Mapping[str, Any]], set[Id]]:
        """The annotations with an id, and the ids that several have."""
        by_id: dict[Id, Mapping[str, Any]] = {}
        repeated = set()
        for members in self.document["annotations"]:
            identifier = identifier_of(members.get("id")) if isinstance(members, dict) else None
            if identifier is not None:
                if identifier in by_id:
                    repeated.add(identifier)
                by_id[identifier] = members
        return by_id, repeated

    def _line_record(
        self, name: str, entry: Any, by_id: Mapping[Id, Mapping[str, Any]], repeated: set[Id]
    ) -> AnnotationRecord:
        if not isinstance(entry, dict):
            raise BadSampleError("it is not a JSON object")
        identifier = identifier_of(entry.get("annotation_id"))
        if identifier is None or identifier not in by_id:
            raise BadSampleError("its annotation_id is not in the annotations")
        if identifier in repeated:
            raise BadSampleError("its annotation_id is that of several annotations")
        captions, tags = captions_of(entry), entry.get("tags")
        if not captions or not all(clean_caption(caption) for caption in captions):
            raise BadSampleError("its caption is missing or empty; write one, or leave the line out")
        if tags is not None and not are_texts(tags):
            raise BadSampleError(f"its tags {reprlib.repr(tags)} are not a list of texts")
        return self._record(name, by_id[identifier], captions=captions, tags=tuple(tags or ()))

    def _record(
        self, name: str, members: Any, *, captions: tuple[str, ...] | None = None, tags: tuple[str, ...] = ()
    ) -> AnnotationRecord:
        if not isinstance(members, dict):
            raise BadSampleError("it is not an object")
        extra = members.get("extra_info")
        if extra is not None and not isinstance(extra, dict):
            raise BadSampleError("its extra_info is not an object")
        image_id, image = self._image(members.get("image_id"))
        captions = captions_of(members) if captions is None else captions
        for text in captions:
            check_text(text, "its caption")
        return AnnotationRecord(
            name=name,
            id=identifier_of(members.get("id")),
            image_id=image_id,
            image=image,
            box=self._box(members, official=extra is not None),
            captions=captions,
            tags=tags,
            category=self._category(members, extra or {}),
            category_id=members.get("category_id"),
            members=members,
        )

    def _image(self, value: Any) -> tuple[Id, ListedImage]:
        identifier = identifier_of(value)
        if identifier is not None and identifier in self._bad_images:
            raise BadSampleError(f"its image's {self._bad_images[identifier]}")
        if identifier is None or identifier not in self.images:
            raise BadSampleError(f"its image_id {reprlib.repr(value)} is not among the images")
        return identifier, self.images[identifier]

    def _box(self, members: Mapping[str, Any], *, official: bool) -> Corners:
        bbox, segmentation = bbox_of(members.get("bbox")), members.get("segmentation")
        segmentation_first = official or self._box_rule is BoxRule.SEGMENTATION
        corners = None
        if bbox is None or segmentation_first:
            try:
                corners = segmentation_box(segmentation)
            except BadSampleError:
                if bbox is None:
                    raise
        if corners is None and bbox is not None:
            corners = corners_from(bbox, self.source.box_format or usual_box_format(official=official))
        if corners is None:
            raise BadSampleError("it has neither a bbox nor a segmentation")
        try:
            return Box(*corners).corners
        except BoxError as error:
            raise BadSampleError(str(error).rstrip(".")) from error

    def _category(self, members: Mapping[str, Any], extra: Mapping[str, Any]) -> str | None:
        if not self._read_categories:
            return None
        result = extra.get("coco_result")
        if result is None:
            identifier = identifier_of(members.get("category_id"))
            if identifier in self._ambiguous_categories:
                raise BadSampleError(f"its category_id {shown(identifier)} is that of several categories")
            return None if identifier is None else self._category_names.get(identifier)
        name = result.get("category") if isinstance(result, dict) else None
        if not isinstance(name, str):
            raise BadSampleError("its extra_info.coco_result has no category")
        check_text(name, "its category")
        return name

    def _listed_folder(self, *, required: bool) -> Path:
        file, dataset = self.source.file, self.document.get("dataset")
        root = dataset.get("image_root") if isinstance(dataset, dict) else dataset
        if isinstance(dataset, dict) and isinstance(root, str):
            folder = listed_path(file.parent, root, Path.is_dir)
            if required and not folder.is_dir():
                raise DataError(f"the dataset.image_root {root!r} of {file} is not a folder; give it with --images.")
            return folder
        if required:
            raise DataError(f"{file} names no dataset.image_root; give the folder of its images with --images.")
        if root is not None:
            raise DataError(f"the dataset.image_root of {file} is not a text; give the folder with --images.")
        return file.parent

    def _list_images(self) -> None:
        """Two images of one id leave open which of them an annotation means, so that no annotation can be trusted."""
        places: dict[Id, int] = {}
        for place, entry in enumerate(self.document["images"]):
            identifier = identifier_of(entry.get("id")) if isinstance(entry, dict) else None
            if identifier is None:  # no annotation can refer to it
                continue
            if identifier in places:
                raise DataError(
                    f"{self.source.file}: images[{places[identifier]}] and images[{place}] both have the id "
                    f"{shown(identifier)}; renumber one of them and its annotations."
                )
            places[identifier] = place
            try:
                self.images[identifier] = self._listed_image(entry)
            except BadSampleError as error:
                self._bad_images[identifier] = str(error)

    def _listed_image(self, entry: Mapping[str, Any]) -> ListedImage:
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise BadSampleError("file_name is missing or not a text")
        check_text(name, "file_name")
        if "\0" in name:
            raise BadSampleError("file_name holds a zero character")
        return ListedImage(str(listed_path(self._folder, name)), listed_size(entry), name)

    def _listed_categories(self) -> Iterator[ListedCategory]:
        """Those with an id and a name."""
        for place, entry in enumerate(self._category_entries()):
            found = entry if isinstance(entry, dict) else {}
            identifier, name = identifier_of(found.get("id")), found.get("name")
            try:
                if identifier is None or not isinstance(name, str):
                    raise BadSampleError("it needs a name, and as its id a whole number or a text")
                check_text(name, "its name")
                yield ListedCategory(identifier, name)
            except BadSampleError as error:
                self.category_problems.append(f"categories[{place}]: {error}")

    def _category_entries(self) -> list[Any]:
        entries = self.document.get("categories")
        if entries is None:
            return []
        if not isinstance(entries, list):
            raise DataError(f"the categories of {self.source.file} are not a list; correct or remove them.")
        return entries


def _checked_document(file: Path, document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise DataError(f"{file} is not a JSON object with images and annotations.")
    for key in ("images", "annotations"):
        if not isinstance(document.get(key), list):
            raise DataError(f"{file} has no list of {key}; it must be COCO-style annotations.")
    return document


def _named(annotations: list[Any]) -> Iterator[tuple[str, Any]]:
    """Each annotation after its name: by id, with the position where an earlier one has it too or there is none."""
    seen = set()
    for position, members in enumerate(annotations):
        place = f"annotations[{position}]"
        identifier = identifier_of(members.get("id")) if isinstance(members, dict) else None
        if identifier is None:
            yield place, members
            continue
        name = f"annotation {shown(identifier)}"
        yield f"{name} at {place}" if name in seen else name, members
        seen.add(name)


def _refuse(reason: str) -> NoReturn:
    raise BadSampleError(reason)
