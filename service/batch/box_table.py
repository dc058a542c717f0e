"""Boxes of many images in columns, for formats that list them in one file: some fifty bytes a box."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dynrefer.service.batch.items import Item

Id = int | str


def number_of(value: object) -> float:
    """A number, also as a text; NaN for anything else: its region fails alone, with a sentence about its box."""
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # what fails is caught
    except (TypeError, ValueError, OverflowError):
        return math.nan


def identifier_of(value: object) -> Id | None:
    """A whole number or a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if value != "" else None


@dataclass
class BoxTable:
    """The images in the order of the file, and of each its boxes in the order of the file.

    fields: of POST /v1/describe, that say how the boxes are written.
    """

    fields: Mapping[str, Any]
    _files: list[str] = field(default_factory=list)
    _image_ids: list[Id | None] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)  # of the files
    _names: list[str] = field(default_factory=list)
    _name_places: dict[str, int] = field(default_factory=dict)
    _image: array[int] = field(default_factory=lambda: array("i"))  # of each box
    _boxes: array[float] = field(default_factory=lambda: array("d"))
    _label: array[int] = field(default_factory=lambda: array("i"))  # of each box; -1: none
    _ids: list[Id | None] = field(default_factory=list)

    def __len__(self) -> int:
        """How many boxes there are."""
        return len(self._image)

    def image(self, file: str, image_id: Id | None = None) -> int:
        """The place of an image, which is a new one where the file was not named before."""
        place = self._places.setdefault(file, len(self._files))
        if place == len(self._files):
            self._files.append(file)
            self._image_ids.append(image_id)
        return place

    def add(self, image: int, box: Sequence[object], label: str | None, box_id: Id | None) -> None:
        """A box of the image at this place; box: four numbers, or what stands in their places."""
        self._image.append(image)
        self._boxes.extend(number_of(value) for value in box)
        self._label.append(-1 if label is None else self._name_places.setdefault(label, len(self._names)))
        if len(self._name_places) > len(self._names):
            self._names.append(str(label))
        self._ids.append(box_id)

    def items(self, images: Path) -> Iterator[Item]:
        """The images that have boxes. images: the folder that their names are relative to."""
        of_image = np.array(self._image, dtype=np.int32)
        order = np.argsort(of_image, kind="stable")
        ends = np.cumsum(np.bincount(of_image, minlength=len(self._files)))
        for place, file in enumerate(self._files):
            boxes = order[ends[place - 1] if place else 0 : ends[place]].tolist()
            if boxes:
                yield self._item(place, file, boxes, images)

    def _item(self, place: int, file: str, boxes: list[int], images: Path) -> Item:
        regions = []
        for index, box in enumerate(boxes):
            name = self._ids[box]
            corners = list(self._boxes[4 * box : 4 * box + 4])
            regions.append({"id": str(index if name is None else name), "box": corners})
        labels = tuple(None if self._label[box] < 0 else self._names[self._label[box]] for box in boxes)
        request = {**self.fields, "regions": regions}
        named = any(label is not None for label in labels)
        return Item(file, images / file, request, labels if named else (), self._image_ids[place])
