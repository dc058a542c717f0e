"""JSON Lines: a request of POST /v1/describe per line, whose `image` is a path; or Hugging Face's `metadata.jsonl`.

Sources of the latter: https://huggingface.co/docs/datasets/image_dataset#object-detection and the field names of
transformers' object-detection example (`bbox` as COCO writes it, `category`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.service.batch.answers import (
    Answers,
    attributes_of,
    caption_of,
    described_regions,
    name_of,
    tags_of,
    xywh,
)
from dynrefer.service.batch.box_table import identifier_of, number_of
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Item
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64


@dataclass(frozen=True)
class LinesSource:
    """file: the lines, of either kind. images: the folder that paths are relative to. find: whether lines bring no
    regions, as these are to be found."""

    file: Path
    images: Path
    find: bool = False
    format: str = "jsonl"

    def items(self) -> Iterator[Item]:
        """See `ItemSource`. Blank lines are left out."""
        try:
            with self.file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield self._item(line, f"line {number}")
        except OSError as error:
            raise BatchError(f"cannot read {self.file}: {(error.strerror or str(error)).lower()}.") from None

    def _item(self, line: bytes, where: str) -> Item:
        try:
            members = json.loads(line)
        except ValueError:
            members = None
        if not isinstance(members, dict):
            return Item(where, b"", flaw=f"{where} is not a JSON object.")
        if "objects" in members or "file_name" in members:
            return self._of_objects(members, where)
        return self._of_request(members, where)

    def _of_request(self, members: dict[str, Any], where: str) -> Item:
        image, name = members.pop("image", None), identifier_of(members.pop("id", None))
        if isinstance(image, dict) and isinstance(image.get("base64"), str):
            try:
                data = decode_base64(image["base64"].encode("ascii", "replace"))
            except Base64Error as error:
                return Item(where, b"", id=name, flaw=f"The image is not standard Base64: the text {error}.")
            return self._checked(Item(where, data, members, id=name))
        if not isinstance(image, str) or not image:
            return Item(where, b"", id=name, flaw='`image` must be a path, or {"base64": ...}.')
        return self._checked(Item(image, self.images / image, members, id=name))

    def _checked(self, item: Item) -> Item:
        if self.find and item.request:
            flaw = f"With --find a line has `image` alone, not `{next(iter(item.request))}`."
            return Item(item.file, item.image, id=item.id, flaw=flaw)
        return item

    def _of_objects(self, members: Mapping[str, Any], where: str) -> Item:
        file, objects = members.get("file_name"), members.get("objects")
        if not isinstance(file, str) or not file:
            return Item(where, b"", flaw="`file_name` must be a path.")
        image = self.images / file
        if self.find:
            return Item(file, image)
        boxes = objects.get("bbox") if isinstance(objects, dict) else None
        if not isinstance(boxes, list) or not isinstance(objects, dict):
            return Item(file, image, flaw="`objects` needs a list `bbox` of [x, y, width, height].")
        names, ids = (_column(objects, each, len(boxes)) for each in (("category", "categories"), ("id",)))
        regions = []
        for place, box in enumerate(boxes):
            corners = [number_of(each) for each in box] if isinstance(box, list) else []
            given = identifier_of(ids[place])
            regions.append({"id": str(place if given is None else given), "box": corners})
        labels = tuple(each if isinstance(each, str) else None for each in names)
        return Item(file, image, {"box_format": "xywh", "regions": regions}, labels)


def _column(objects: Mapping[str, Any], names: tuple[str, ...], length: int) -> list[Any]:
    """The first of these members that is a list of that length."""
    found = (objects.get(name) for name in names)
    return next((each for each in found if isinstance(each, list) and len(each) == length), [None] * length)


def write_lines(path: Path, answers: Answers) -> None:
    """A line per image, as the service would answer it."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for line in answers.lines():
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_objects(path: Path, answers: Answers) -> None:
    """Hugging Face's `metadata.jsonl`: `file_name`, and in `objects` a list for each member of a region."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for line in answers.lines():
            regions = list(described_regions(line))
            boxes = [xywh(region) for region in regions]
            objects = {
                "id": [str(region["id"]) for region in regions],
                "bbox": boxes,
                "area": [round(width * height, 3) for _, _, width, height in boxes],
                "category": [name_of(region) for region in regions],
                "caption": [caption_of(region) or "" for region in regions],
                "tags": [tags_of(region) for region in regions],
                "attributes": [[f"{kind}:{value}" for kind, value in attributes_of(r).items()] for r in regions],
            }
            size = {side: line["image"][side] for side in ("width", "height")}
            file.write(json.dumps({"file_name": line["file"], **size, "objects": objects}, ensure_ascii=False) + "\n")
