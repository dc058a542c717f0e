"""Training's view of an annotation file: regions with captions and tags, in columns.

Millions of regions fit into memory, and processes that read images share the columns without copying them.
"""

from __future__ import annotations

import itertools
import reprlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynrefer.model.geometry import ImageSize
from dynrefer.model.types import Corners
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.annotations import AnnotationReader, AnnotationRecord, AnnotationSource, BoxRule
from dynrefer.workbench.data.bad_samples import BadSample, BadSampleReport
from dynrefer.workbench.data.captions import VocabularyWords, clean_caption
from dynrefer.workbench.errors import BadSampleError, DataError


@dataclass(frozen=True)
class Region:
    """One sample. image: path of the file. listed_size: (width, height) that the annotations list, or None.

    box: xyxy pixels in the frame of the annotations (`frames`), not yet clipped. caption: cleaned. tags: indices into
    the vocabulary's tags.
    """

    name: str
    image: str
    listed_size: ImageSize | None
    box: Corners
    caption: str
    tags: tuple[int, ...]


class _Texts:
    """Many texts as one run of bytes: Python objects would be copied by every process that looks at them."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])

    def append(self, text: str) -> None:
        self._bytes += text.encode()
        self._ends.append(len(self._bytes))

    def __getitem__(self, index: int) -> str:
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode()


class RegionTable(Sequence[Region]):
    """The samples of one data set, in the order of its file; the regions are taken one at a time."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._images, self._names, self._captions = _Texts(), _Texts(), _Texts()
        places: dict[str, int] = {}
        image, sizes, boxes = array("i"), array("i"), array("d")
        tags, tag_ends = array("i"), array("q", [0])
        for region in regions:
            place = places.setdefault(region.image, len(places))
            if 2 * place == len(sizes):  # seen for the first time
                self._images.append(region.image)
                sizes.extend((0, 0))
            if region.listed_size is not None:
                sizes[2 * place : 2 * place + 2] = array("i", region.listed_size)
            image.append(place)
            boxes.extend(region.box)
            self._names.append(region.name)
            self._captions.append(region.caption)
            tags.extend(region.tags)
            tag_ends.append(len(tags))
        self._image = np.array(image, dtype=np.int32)
        self._sizes = np.array(sizes, dtype=np.int32).reshape(-1, 2)
        self._boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        # The samples image by image: those of image i are _by_image[_image_ends[i - 1] : _image_ends[i]].
        self._by_image = np.argsort(self._image, kind="stable").astype(np.int32)
        self._image_ends = np.cumsum(np.bincount(self._image, minlength=len(places)))
        self._tags, self._tag_ends = np.array(tags, dtype=np.int32), np.array(tag_ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._image)

    def image_boxes(self, index: int) -> Iterator[Corners]:
        """The boxes of all samples on the image of one, as they are asked for."""
        image = int(self._image[index])
        first = int(self._image_ends[image - 1]) if image else 0
        for other in self._by_image[first : int(self._image_ends[image])]:
            x1, y1, x2, y2 = self._boxes[other].tolist()
            yield x1, y1, x2, y2

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]  # slices are not needed
        image = int(self._image[index])
        width, height = self._sizes[image].tolist()
        x1, y1, x2, y2 = self._boxes[index].tolist()
        return Region(
            name=self._names[index],
            image=self._images[image],
            listed_size=(width, height) if width else None,
            box=(x1, y1, x2, y2),
            caption=self._captions[index],
            tags=tuple(self._tags[self._tag_ends[index] : self._tag_ends[index + 1]].tolist()),
        )


def read_regions(source: AnnotationSource, vocabulary: Vocabulary) -> tuple[RegionTable, BadSampleReport]:
    """All usable samples of a file, and the report of the bad ones; box rule: `BoxRule.SEGMENTATION`.

    A sample is one caption of an annotation or, with a captions file, a line of it. The report is not checked yet.
    Raises `DataError` if a file as a whole is not what it should be.
    """
    report = BadSampleReport(str(source.file), 0)
    reader = AnnotationReader(source, report, box_rule=BoxRule.SEGMENTATION, require_images=True)
    regions = _Regions(vocabulary, report, captions_file=source.captions is not None)
    records = reader.annotations if source.captions is None else reader.caption_lines
    table = RegionTable(itertools.chain.from_iterable(records(regions.of_record)))
    if not report.total:
        raise DataError(f"{source.file} holds no annotation to train on.")
    return table, report


class _Regions:
    """Records -> samples, with the tags of the vocabulary.

    The official project lists tags as indices, in `extra_info.parser_result.tag_set1` and `tag_set2`. Without them the
    tags are those that the caption's words, the category's name and the line's `tags` name.
    """

    def __init__(self, vocabulary: Vocabulary, report: BadSampleReport, *, captions_file: bool) -> None:
        self._words, self._num_tags = VocabularyWords(vocabulary), len(vocabulary.tags)
        self._report, self._captions_file = report, captions_file

    def of_record(self, record: AnnotationRecord) -> list[Region]:
        """A region for each caption of an annotation. Raises `BadSampleError`."""
        if len(record.captions) < 2:
            return [self._region(record, record.name, "".join(record.captions))]
        found = []
        self._report.total += len(record.captions) - 1  # the annotation itself is counted
        for number, caption in enumerate(record.captions, start=1):
            name = f"{record.name}, caption {number}"
            try:
                found.append(self._region(record, name, caption))
            except BadSampleError as error:
                self._report.add([BadSample(name, str(error))])
        return found

    def _region(self, record: AnnotationRecord, name: str, written: str) -> Region:
        caption = clean_caption(written)
        if not caption:
            hint = "" if self._captions_file else "; plain COCO needs --captions"
            raise BadSampleError(f"its caption is missing or empty{hint}")
        return Region(
            name=f"{name} ({Path(record.image.path).name})",
            image=record.image.path,
            listed_size=record.image.size,
            box=record.box,
            caption=caption,
            tags=self._tags(record, caption),
        )

    def _tags(self, record: AnnotationRecord, caption: str) -> tuple[int, ...]:
        parsed = _object(_object(record.members, "extra_info"), "parser_result")
        if "tag_set1" in parsed or "tag_set2" in parsed:
            return self._checked([*_list(parsed.get("tag_set1")), *_list(parsed.get("tag_set2"))])
        found = set(self._words.tags(caption))
        for name in record.tags:
            tag = self._words.tag(name)
            if tag is None:
                raise BadSampleError(f"its tag {reprlib.repr(name)} is not in the vocabulary")
            found.add(tag)
        named = None if record.category is None else self._words.tag(record.category)
        return tuple(sorted(found if named is None else found | {named}))

    def _checked(self, indices: list[Any]) -> tuple[int, ...]:
        """The union of both sets."""
        for index in indices:
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < self._num_tags:
                raise BadSampleError(
                    f"its tag index {reprlib.repr(index)} is not one of the vocabulary's {self._num_tags} tags"
                )
        return tuple(sorted(set(indices)))


def _object(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = mapping.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadSampleError(f"its tags {reprlib.repr(value)} are not a list")
    return value
