"""Labelled regions of real images: what is true of them, and how they are asked about.

Letters: R regions, K categories, A attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import AnnotatedImageError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import annotated_pixels
from dynrefer.model.types import Corners, Task
from dynrefer.workbench.data.captions import clean_caption
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.inference import Picture

Id = int | str  # of an image or a region, as the file has it


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """One region. box: xyxy pixels, in the frame of `annotated_pixels`. What is not known is None or empty.

    captions: its references. attributes: 1, 0, or -1 where unknown, in the order of `LabelledData.attributes`.
    score: of the detector that proposed it. aliases: ids of other annotations of the same box.
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
    """The R regions of a file, those of one image side by side; a `Regions` that can be asked about.

    source: the file's name, for messages. images: id -> file. attributes: names, "type:value/synonym". groups: name
    -> "head", "medium" or "tail", where the file says so. categories: name -> id; open_categories: the file lists none,
    so these are only the ones that occur. sizes: of images, where the file says so.
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
        """The attributes and categories that the file knows; none where it knows none."""
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

    def pictures(self) -> Iterator[Picture]:
        """The images that have regions, read when their turn comes."""
        for image, regions in self.by_image.items():
            path = self.images[image]
            yield Picture(
                partial(_read_pixels, path, self.sizes.get(image)), tuple(region.box for region in regions), path.name
            )

    def check_images(self) -> None:
        """Raise `DataError` for an image that is not there, before any work is done."""
        for image in self.by_image:
            path = self.images[image]
            if not path.is_file():
                raise DataError(
                    f"image {image!r} of {self.source}: no file {path}; name the folder of the images with --images."
                )

    def keep(self, regions: Sequence[LabelledRegion], missing: str) -> LabelledData:
        """The same data with other regions; raises `DataError` saying what is `missing` where there are none."""
        if not regions:
            raise DataError(f"{self.source} has no region with {missing}.")
        order = {image: place for place, image in enumerate(dict.fromkeys(region.image for region in regions))}
        return replace(self, regions=tuple(sorted(regions, key=lambda region: order[region.image])))

    def competing(self, names: Iterable[str]) -> LabelledData:
        """The same; where the file lists no categories, `names` are candidates too: among the few that occur in a
        small file the right one would be easy to find."""
        if not self.open_categories:
            return self
        known = dict.fromkeys([*names, *self.categories])
        return replace(self, categories={name: place for place, name in enumerate(known, 1)})

    def sample(self, count: int) -> LabelledData:
        """About `count` regions: whole images in a shuffled order that is always the same, until they hold so many."""
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
    """The regions with captions. Annotations of one image with the same box are one region with several references,
    as RefCOCOg has them. Raises `DataError` for a caption without a word, which training calls a bad sample too, but
    not with `blank`: the boxes of Visual Genome's empty phrases are there to be found."""
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
    """The regions of one object each, with its category."""
    return data.keep(
        [r for r in data.regions if r.category is not None and not r.crowd], "a category; --task recognition needs it"
    )


def _read_pixels(path: Path, listed: ImageSize | None) -> NDArray[np.uint8]:
    try:
        return annotated_pixels(path, listed)
    except AnnotatedImageError as error:
        raise DataError(f"{error}.") from error
