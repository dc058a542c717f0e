"""Annotation files -> regions with captions and tags.

Two forms, one reader:
- the official project's COCO-style JSON: every annotation has a `caption`, a `segmentation` (polygons or a run-length
  mask) or a `bbox`, and its tags as indices in `extra_info.parser_result.tag_set1` and `tag_set2`;
- plain COCO instances, with a JSONL file of captions: {"annotation_id": 7, "caption": "a red dog", "tags": ["dog"]}.

An annotation without indices gets its tags from its caption and its category's name, by the vocabulary.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import (
    Box,
    BoxFormat,
    ImageSize,
    box_from_polygons,
    box_from_rle,
    corners_from,
    usual_box_format,
)
from dynrefer.model.types import Corners
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.annotation_files import CaptionLine, named_samples, read_document
from dynrefer.workbench.data.bad_samples import BadSample, BadSampleReport
from dynrefer.workbench.data.captions import VocabularyWords, clean_caption
from dynrefer.workbench.data.region_table import MOST_SIDE, Region, RegionTable
from dynrefer.workbench.errors import BadSampleError, DataError


@dataclass(frozen=True)
class AnnotationSource:
    """Where annotations lie and how to read them. box_format: of `bbox`, "xywh", "xyxy", or "auto": xyxy in
    annotations of the official layout, which have `extra_info`, else xywh as in COCO."""

    file: Path
    images: Path | None
    captions: Path | None
    box_format: str


@dataclass(frozen=True)
class _Picture:
    path: str
    size: ImageSize | None


def read_regions(source: AnnotationSource, vocabulary: Vocabulary) -> tuple[RegionTable, BadSampleReport]:
    """All readable samples of a file, and the tally of those that are not.

    The tally is not judged yet. Raises `DataError` if the file as a whole is not what it should be.
    """
    document = read_document(source.file)
    reader = _Reader(document, source, vocabulary)
    regions, bad = [], []
    for name, annotation, said in named_samples(document, source.captions):
        try:
            regions.append(reader.region(name, annotation, said))
        except BadSampleError as error:
            bad.append(BadSample(name, str(error)))
    tally = BadSampleReport(str(source.file), len(regions) + len(bad))
    tally.add(bad)
    if not tally.total:
        raise DataError(f"{source.file} holds no annotation to train on.")
    return RegionTable(regions), tally


class _Reader:
    """What single annotations refer to: pictures, categories, the vocabulary's words."""

    def __init__(self, document: Mapping[str, Any], source: AnnotationSource, vocabulary: Vocabulary) -> None:
        self._words, self._num_tags = VocabularyWords(vocabulary), len(vocabulary.tags)
        self._box_format = None if source.box_format == "auto" else BoxFormat(source.box_format)
        self._captioned = source.captions is not None
        root = source.images or _image_root(document, source.file)
        self._pictures = {
            image["id"]: _Picture(str(root / image["file_name"]), _size(image))
            for image in document["images"]
            if isinstance(image, dict) and isinstance(image.get("file_name"), str)
            if isinstance(image.get("id"), int | str)
        }
        self._categories = {
            category["id"]: category["name"]
            for category in document.get("categories") or []
            if isinstance(category, dict) and isinstance(category.get("name"), str)
            if isinstance(category.get("id"), int | str)
        }

    def region(self, name: str, annotation: Any, said: CaptionLine | None) -> Region:
        """Raises `BadSampleError`."""
        if not isinstance(annotation, dict):
            raise BadSampleError(
                "it is not JSON or its annotation_id is not in the annotations" if said else "it is not an object"
            )
        key = annotation.get("image_id")
        picture = self._pictures.get(key) if isinstance(key, int | str) else None
        if picture is None:
            raise BadSampleError(f"its image_id {reprlib.repr(key)} is not among the images with a file_name")
        _check_picture(picture)
        given = said.caption if said else annotation.get("caption")
        if not isinstance(given, str) or not clean_caption(given):
            wanted = "" if self._captioned else "; plain COCO needs --captions"
            raise BadSampleError(f"its caption is missing or empty{wanted}")
        caption = clean_caption(given)
        _check_text(caption, "caption")
        return Region(
            name=f"{name} ({Path(picture.path).name})",
            picture=picture.path,
            listed_size=picture.size,
            box=self._box(annotation),
            caption=caption,
            tags=self._tags(annotation, caption, said),
        )

    def _box(self, annotation: Mapping[str, Any]) -> Corners:
        segmentation = annotation.get("segmentation")
        try:
            if segmentation:
                corners = _outline(segmentation)
            else:
                usual = usual_box_format(official=annotation.get("extra_info") is not None)
                corners = corners_from(_numbers(annotation.get("bbox")), self._box_format or usual)
            return Box(*corners).corners
        except BoxError as error:
            raise BadSampleError(str(error).rstrip(".")) from error
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            what = "segmentation" if segmentation else "bbox"
            raise BadSampleError(f"its {what} is missing or malformed") from error

    def _tags(self, annotation: Mapping[str, Any], caption: str, said: CaptionLine | None) -> tuple[int, ...]:
        """The union of both sets of indices; without them what names and words tell."""
        parsed = _member(_member(annotation, "extra_info"), "parser_result")
        if "tag_set1" in parsed or "tag_set2" in parsed:
            indices = [*_list(parsed.get("tag_set1")), *_list(parsed.get("tag_set2"))]
            for index in indices:
                if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < self._num_tags:
                    raise BadSampleError(
                        f"its tag index {reprlib.repr(index)} is not one of the vocabulary's {self._num_tags} tags"
                    )
            return tuple(sorted(set(indices)))
        named = _list(said.tags) if said else []
        found = set(self._words.tags(caption))
        for name in named:
            tag = self._words.tag(name) if isinstance(name, str) else None
            if tag is None:
                raise BadSampleError(f"its tag {reprlib.repr(name)} is not in the vocabulary")
            found.add(tag)
        category = annotation.get("category_id")
        if isinstance(category, int | str) and category in self._categories:
            tag = self._words.tag(self._categories[category])
            found |= set() if tag is None else {tag}
        return tuple(sorted(found))


def _image_root(document: Mapping[str, Any], file: Path) -> Path:
    dataset = document.get("dataset")
    root = dataset.get("image_root") if isinstance(dataset, dict) else None
    if not isinstance(root, str):
        raise DataError(f"{file} names no dataset.image_root; give the folder of its pictures with --images.")
    folder = file.parent / root
    if not folder.is_dir():
        raise DataError(f"the dataset.image_root {root!r} of {file} is not a folder; give it with --images.")
    return folder


def _size(image: Mapping[str, Any]) -> ImageSize | None:
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _check_picture(picture: _Picture) -> None:
    _check_text(picture.path, "picture's file_name")
    if picture.size is not None and max(picture.size) > MOST_SIDE:
        raise BadSampleError(f"its picture's listed width or height is above {MOST_SIDE} pixels")


def _check_text(text: str, what: str) -> None:
    """JSON may hold what no file and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadSampleError(f"its {what} holds half of a character (a lone surrogate)") from error


def _outline(segmentation: Any) -> Corners:
    if isinstance(segmentation, dict):
        return box_from_rle(segmentation)
    return box_from_polygons([_numbers(polygon) for polygon in segmentation])


def _numbers(values: Any) -> list[float]:
    """Finite numbers, no texts that look like them. Raises TypeError or ValueError."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise TypeError
    if not all(math.isfinite(value) for value in values):
        raise ValueError
    return [float(value) for value in values]


def _member(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = mapping.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadSampleError(f"its tags {reprlib.repr(value)} are not a list")
    return value
