"""The images of an annotation file as scenes for the training of the finder: boxes and names, no masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from dynrefer.model.grounding.sentence import read_sentence
from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.data.labelled_files import read_labelled
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.scenes.scene import Scene, SceneObject

_NO_PIXEL = -1  # a box of a file does not say which pixels show its object


class FileScenes(Sequence[Scene]):
    """Scenes that are read when they are asked for. names: those that the finder is trained on.

    An object whose category or phrase is none of them has the category "": it is to be found, and not to be named.
    Crowds are no objects.
    """

    def __init__(self, data: LabelledData, names: Sequence[str]) -> None:
        self._data = data = data.keep([each for each in data.regions if not each.crowd], "one object: all are crowds")
        self._names = frozenset(names)
        self._images = list(data.image_regions())
        self._regions = list(data.by_image.values())
        if not any(self._name(region) for regions in self._regions for region in regions):
            raise DataError(
                f"{data.source} names nothing that the model knows; its categories, or the nouns of its captions, are "
                "to be among the model's categories."
            )

    @classmethod
    def read(cls, path: Path, images: Path | None, names: Sequence[str]) -> FileScenes:
        """path: a COCO-style file or a folder of Flickr30k Entities; images: the folder of the images. Raises
        `DataError`, `TooManyBadSamplesError`."""
        return cls(read_labelled(path, images).located(), names)

    def __len__(self) -> int:
        """How many images have a region."""
        return len(self._images)

    @overload
    def __getitem__(self, place: int) -> Scene: ...
    @overload
    def __getitem__(self, place: slice) -> list[Scene]: ...
    def __getitem__(self, place: int | slice) -> Scene | list[Scene]:
        """The image with the objects of the file. Raises `DataError` if it cannot be read."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        image = self._images[place]
        pixels = image.load()
        objects = tuple(map(self._object, self._regions[place], image.boxes))
        return Scene(pixels, None, objects, 0, np.full(pixels.shape[:2], _NO_PIXEL, dtype=np.int8))

    @property
    def summary(self) -> str:
        """One line about what was read."""
        every = [region for regions in self._regions for region in regions]
        named = sum(bool(self._name(region)) for region in every)
        return f"{self._data.source}: {len(self)} images, {len(every)} regions, {named} with a name that is trained"

    def _object(self, region: LabelledRegion, box: tuple[float, float, float, float]) -> SceneObject:
        said = region.captions or ((region.category,) if region.category else ())
        return SceneObject(box, self._name(region), "", {}, "", 0, None, (), said, False, False)

    def _name(self, region: LabelledRegion) -> str:
        """A trained name, or ""."""
        said = [region.category.lower()] if region.category else []
        for caption in region.captions:
            said += [phrase.noun for phrase in read_sentence(caption)[:1]]
        return next((form for each in said for form in (each, each.removesuffix("s")) if form in self._names), "")
