"""Labelled regions of real images, as evaluation sees an annotation file: what is true of each region.

Shapes: R = regions, A = attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import AnnotatedImageError, BoxError
from dynrefer.model.geometry import Box, ImageSize
from dynrefer.model.images import annotated_image, annotated_info
from dynrefer.model.types import Corners, ImageInfo, Task
from dynrefer.workbench.data.annotation_values import Id, shown
from dynrefer.workbench.data.bad_samples import BadSample, BadSampleReport
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.data.frames import Frame, is_stored, upright_boxes
from dynrefer.workbench.data.listed_files import missing_hint
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """One region. Members that are not known, or not read, are None or empty.
    id: the annotation's or, where it has none, its place in the file. box: xyxy pixels in the frame of the annotations.
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
    skipped: the annotations that were left out, among all that were read. stored: what the header says of the images
    whose boxes are those of the image as it is stored; left_out: id of a region that was left out because of its image
    -> (the image's id, the reason). Both are known once `located` has looked at the images.
    """

    source: str
    images: Mapping[Id, Path]
    regions: tuple[LabelledRegion, ...]
    attributes: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, int] = field(default_factory=dict)
    open_categories: bool = False
    sizes: Mapping[Id, ImageSize] = field(default_factory=dict)
    skipped: BadSampleReport = field(default_factory=lambda: BadSampleReport("", 0))
    stored: Mapping[Id, ImageInfo] = field(default_factory=dict)
    left_out: Mapping[Id, tuple[Id, str]] = field(default_factory=dict)

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
        """The images that have regions, each read on demand; boxes in the frame of the upright image."""
        for image, regions in self.by_image.items():
            path, boxes = self.images[image], tuple(region.box for region in regions)
            if image in self.stored:
                boxes = upright_boxes(boxes, self.stored[image], stored=True)
            yield ImageRegions(partial(_read_pixels, path), boxes, path.name)

    def check_images(self) -> None:
        """Raise `DataError` for a missing image file, before any work is done."""
        for image in self.by_image:
            path = self.images[image]
            if not path.is_file():
                raise DataError(
                    f"image {image!r} of {self.source}: no file {shown(str(path))}; name the folder of the images with "
                    f"--images{missing_hint(str(path))}."
                )

    def located(
        self, frame: Frame = Frame.AUTO, *, known: Mapping[Id, ImageInfo] | None = None
    ) -> LabelledData:  # fmt: skip
        """The same data after a look at the head of every image.

        The frame of its boxes is decided, and boxes that cover nothing of it are left out, as are all of an image that
        cannot be read or is of another size than listed.

        known: the images whose boxes are in the stored frame, where that is decided already.
        Raises `DataError` for a missing image, and `TooManyBadSamplesError`.
        """
        self.check_images()
        stored: dict[Id, ImageInfo] = {}
        left_out: dict[Id, tuple[Id, str]] = {}
        for image, regions in self.by_image.items():
            boxes = [region.box for region in regions]
            try:
                info = annotated_info(self.images[image])
                in_known = None if known is None else image in known
                if is_stored(info, self.sizes.get(image), boxes, frame) if in_known is None else in_known:
                    stored[image] = info
            except AnnotatedImageError as error:
                left_out |= {region.id: (image, str(error)) for region in regions}
                continue
            upright = upright_boxes(boxes, info, stored=image in stored)
            for region, box in zip(regions, upright, strict=True):
                try:
                    Box(*box).clip((info.width, info.height))
                except BoxError as error:
                    left_out[region.id] = (image, str(error).rstrip("."))
        return self._without(left_out, stored)

    def on_images_of(self, labelled: LabelledData) -> LabelledData:
        """Detected boxes as regions of the images of `labelled`, which are `located`; those that cover nothing of their
        images are left out. Raises `TooManyBadSamplesError`, and `DataError` if there are none."""
        kept = self.keep([box for box in self.regions if box.image in labelled.by_image], "a labelled image")
        return kept.located(known=labelled.stored)

    def without(self, left_out: Mapping[Id, tuple[Id, str]]) -> LabelledData:
        """The same data without some regions, given by their ids; they count as skipped. Raises
        `TooManyBadSamplesError`."""
        return self._without(left_out, self.stored)

    def _without(self, left_out: Mapping[Id, tuple[Id, str]], stored: Mapping[Id, ImageInfo]) -> LabelledData:
        bad = [
            BadSample(_named(each, self.images[region.image]), left_out[region.id][1])
            for region in self.regions
            if region.id in left_out
            for each in (region.id, *region.aliases)
        ]
        skipped = self.skipped.joined(bad)
        kept = [region for region in self.regions if region.id not in left_out]
        return replace(self.keep(kept, "a box inside its image"), skipped=skipped, stored=stored, left_out=left_out)

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


def captioned(data: LabelledData, *, blank: bool = False) -> LabelledData:
    """The regions with captions; annotations of one image with the same box become one region with several references.

    RefCOCOg has such annotations. One with a caption without a word is left out as a bad one, as in training; with
    `blank` such captions are allowed, because the boxes of Visual Genome's empty phrases are to be detected.
    Raises `TooManyBadSamplesError`.
    """
    bad: list[BadSample] = []
    merged: dict[tuple[Id, Corners], LabelledRegion] = {}
    for region in data.regions:
        if not blank and not all(clean_caption(caption) for caption in region.captions):
            reason = "its caption is blank; write one, or leave the caption out"
            bad.append(BadSample(_named(region.id, data.images[region.image]), reason))
        elif region.captions:
            key = (region.image, region.box)
            first = merged.get(key)
            merged[key] = (
                region
                if first is None
                else replace(first, captions=first.captions + region.captions, aliases=(*first.aliases, region.id))
            )
    checked = replace(data, skipped=data.skipped.joined(bad))
    return checked.keep(list(merged.values()), "a caption; --task captions and dense-captions need them")


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


def _named(region: Id, image: Path) -> str:
    """A region for messages, as `AnnotationReader` names it, with its image."""
    own = region if isinstance(region, str) and region.startswith("annotations[") else f"annotation {shown(region)}"
    return f"{own} ({shown(image.name)})"


def _read_pixels(path: Path) -> NDArray[np.uint8]:
    try:
        return annotated_image(path).pixels
    except AnnotatedImageError as error:
        raise DataError(f"{error}.") from error
