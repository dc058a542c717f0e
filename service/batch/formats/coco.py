"""COCO's JSON: `images`, `annotations` with `bbox` [x, y, width, height], `categories`.

Source of the format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from dynrefer.service.batch.answers import (
    Answers,
    attributes_of,
    caption_of,
    described_regions,
    name_of,
    score_of,
    tags_of,
    xywh,
)
from dynrefer.service.batch.box_table import BoxTable, identifier_of
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Item

_NO_BOX = (None,) * 4


@dataclass(frozen=True)
class CocoSource:
    """file: the JSON. images: the folder that `file_name` is relative to."""

    file: Path
    images: Path
    format: str = "coco"

    def items(self) -> Iterator[Item]:
        """See `ItemSource`."""
        return self._table.items(self.images)

    @cached_property
    def _table(self) -> BoxTable:
        return _read(self.file)


def _read(file: Path) -> BoxTable:
    try:
        document = json.loads(file.read_bytes())
    except ValueError as error:
        raise BatchError(f"{file} is not JSON: {error}.") from None
    except OSError as error:
        raise BatchError(f"cannot read {file}: {(error.strerror or str(error)).lower()}.") from None
    members = document if isinstance(document, dict) else {}
    listed = {name: _objects(members.get(name), name, file) for name in ("images", "annotations")}
    names = {
        entry.get("id"): entry.get("name") for entry in _objects(members.get("categories", []), "categories", file)
    }
    table, places = BoxTable({"box_format": "xywh"}), {}
    for place, image in enumerate(listed["images"]):
        key, name = identifier_of(image.get("id")), image.get("file_name")
        if key is None or not isinstance(name, str) or not name:
            raise BatchError(f"{file}: images[{place}] needs an id and a file_name.")
        places[str(key)] = table.image(name, key)
    for place, annotation in enumerate(listed["annotations"]):
        image_id = identifier_of(annotation.get("image_id"))
        if str(image_id) not in places:
            raise BatchError(f"{file}: annotations[{place}] has the image_id {image_id!r}, which no image has.")
        box = annotation.get("bbox")
        label = names.get(annotation.get("category_id"))
        table.add(
            places[str(image_id)],
            box if isinstance(box, list) and len(box) == 4 else _NO_BOX,
            label if isinstance(label, str) else None,
            identifier_of(annotation.get("id")),
        )
    if not any("bbox" in each for each in listed["annotations"]):
        raise BatchError(f"{file} has no annotation with a bbox; give a file with boxes, or --find.")
    return table


def _objects(value: Any, name: str, file: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BatchError(f"{file}: {name} must be a list of objects, as COCO writes it.")
    return value


def write_coco(path: Path, answers: Answers) -> None:
    """COCO's JSON with `caption`, `attributes`, `tags` and `score` in the annotations.

    Written as it is made, so that memory does not grow with it. Ids of the input stay where they are whole numbers and
    all different. An image without regions is listed too.
    """
    names, image_ids, box_ids = _census(answers)
    categories = {name: place for place, name in enumerate(sorted(names), 1)}
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write('{"categories": ')
        listed = [{"id": place, "name": name} for name, place in categories.items()]
        file.write(json.dumps(listed, ensure_ascii=False))
        file.write(',\n"images": ')
        _write_list(file, _images(answers, image_ids))
        file.write(',\n"annotations": ')
        _write_list(file, _annotations(answers, categories, image_ids, box_ids))
        file.write("}\n")


def _census(answers: Answers) -> tuple[set[str], bool, bool]:
    """The names of categories, and whether the ids that images and regions have can stay theirs."""
    names: set[str] = set()
    images, boxes = _Ids(), _Ids()
    for line in answers.lines():
        images.add(line.get("id"))
        for region in described_regions(line):
            names.add(name_of(region))
            boxes.add(region["id"])
    return names, images.distinct, boxes.distinct


class _Ids:
    """Whether ids are whole numbers above 0 and all different."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._whole = True

    def add(self, value: Any) -> None:
        """The next id, a number or a text."""
        text = str(value)
        self._whole = self._whole and text.isascii() and text.isdigit() and 0 < int(text) < 2**53
        if self._whole:
            self._numbers.append(int(text))

    @property
    def distinct(self) -> bool:
        """Whether all are."""
        numbers = sorted(self._numbers)
        return self._whole and all(one != next_one for one, next_one in zip(numbers, numbers[1:], strict=False))


def _images(answers: Answers, own_ids: bool) -> Iterator[dict[str, Any]]:
    for place, line in enumerate(answers.lines(), 1):
        image = line["image"]
        yield {
            "id": int(line["id"]) if own_ids else place,
            "file_name": line["file"],
            "width": image["width"],
            "height": image["height"],
        }


def _annotations(
    answers: Answers, categories: dict[str, int], own_image_ids: bool, own_ids: bool
) -> Iterator[dict[str, Any]]:
    number = 0
    for place, line in enumerate(answers.lines(), 1):
        for region in described_regions(line):
            number += 1
            box, mask, caption, score = xywh(region), region.get("mask"), caption_of(region), score_of(region)
            yield {
                "id": int(region["id"]) if own_ids else number,
                "image_id": int(line["id"]) if own_image_ids else place,
                "category_id": categories[name_of(region)],
                "bbox": box,
                "area": round(box[2] * box[3], 3),
                "iscrowd": 0,
                "segmentation": [] if mask is None else {"size": mask["size"], "counts": mask["counts"]},
                **({} if caption is None else {"caption": caption}),
                **({} if score is None else {"score": score}),
                "attributes": attributes_of(region),
                **({"tags": tags_of(region)} if "tags" in region else {}),
            }


def _write_list(file: IO[str], entries: Iterable[dict[str, Any]]) -> None:
    separator = "[\n"
    for entry in entries:
        file.write(separator + json.dumps(entry, ensure_ascii=False))
        separator = ",\n"
    file.write("[]" if separator == "[\n" else "\n]")
