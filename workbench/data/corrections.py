"""What people corrected: a folder with `corrections.jsonl`, one region a line, and `images/`.

A line is `{"id", "image", "box", "caption"?, "category"?, "tags"?, "attributes"?, "by"?, "at"?, "deleted"?}`. Lines are
only ever appended: a later line with the same `id` takes the earlier one's place, and `"deleted": true` takes the
region away. A member that is absent was not judged; an empty list says "none of them". Files of images are named after
the beginning of their own SHA-256, so an image is the same image in every folder and in every later run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dynrefer.model.errors import AnnotatedImageError, QueryError
from dynrefer.model.geometry import Box, ImageSize
from dynrefer.model.images import Pixels, annotated_image, annotated_info
from dynrefer.model.types import Corners, Task
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.errors import DataError

FILE, IMAGES = "corrections.jsonl", "images"
MEMBERS = ("id", "image", "box", "caption", "category", "tags", "attributes", "by", "at", "deleted")
JUDGED = ("caption", "category", "tags", "attributes")
_IMAGE_NAME = re.compile(r"images/([0-9a-f]{32})\.[A-Za-z0-9]{1,8}")
_SHOWN = 5  # flaws in the message


@dataclass(frozen=True)
class Correction:
    """A region as a person wants it described.

    image: the file. digest: the first 32 hexadecimal digits of its SHA-256. box: xyxy pixels of the upright image,
    inside it. caption, category, tags, attributes: None where they were not judged. where: its line, for messages.
    """

    id: str
    image: Path
    digest: str
    box: Corners
    caption: str | None
    category: str | None
    tags: tuple[str, ...] | None
    attributes: tuple[str, ...] | None
    where: str

    def words(self, task: Task) -> tuple[str, ...] | None:
        """What is said of a task that chooses among words; None where nothing was judged."""
        if task is Task.CATEGORIES:
            return None if self.category is None else (self.category,)
        return self.tags if task is Task.TAGS else self.attributes


@dataclass(frozen=True)
class Corrections:
    """The corrections of a folder that count, image by image. digest: of the file that they were read from.

    warnings: sentences about what was left out.
    """

    folder: Path
    regions: tuple[Correction, ...]
    digest: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CorrectedRegions:
    """Corrected regions as evaluation takes them (`data.regions.Regions`); those of one image stand together.

    names: recognition task -> the words that are scored.
    """

    names: Mapping[Task, tuple[str, ...]]
    corrections: tuple[Correction, ...]

    def __len__(self) -> int:
        """R."""
        return len(self.corrections)

    def image_regions(self) -> Iterator[ImageRegions]:
        """The images in order, each with the boxes of its regions."""
        boxes: dict[Path, list[Corners]] = {}
        for each in self.corrections:
            boxes.setdefault(each.image, []).append(each.box)
        for path, some in boxes.items():
            yield ImageRegions(partial(_pixels, path), tuple(some), str(path))


def read_corrections(folder: Path) -> Corrections:
    """Read and check a folder; an unfinished last line is left out with a warning.

    Raises `DataError` for a folder without the file, and for flaws: the first five with their line and member.
    """
    path, flaws = folder / FILE, list[str]()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    latest: dict[str, tuple[str, dict[str, Any]]] = {}
    warnings = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        where = f"{FILE}, line {number}"
        if not line.strip():
            continue
        try:
            record = _record(line)
        except ValueError as error:
            if number == len(lines):  # what follows the last line feed: it is still being written, or was cut off
                warnings.append(f"{where} is unfinished and was left out.")
            else:
                flaws.append(f"{where}: {error}")
            continue
        latest.pop(record["id"], None)
        latest[record["id"]] = (where, record)
    reader = _ImageReader(folder)
    found, silent = list[Correction](), 0
    for where, record in latest.values():
        if record.get("deleted", False):
            continue
        if all(record.get(member) is None for member in JUDGED):
            silent += 1
            continue
        try:
            found.append(_correction(where, record, reader))
        except ValueError as error:
            flaws.append(f"{where}: {error}")
    if flaws:
        raise DataError(_summary(path, flaws))
    if not found:
        raise DataError(f"{path} holds no region; correct some first.")
    if silent:
        warnings.append(f"{silent} regions of {FILE} were drawn and nothing of them was judged; they were left out.")
    found.sort(key=lambda each: (each.digest, str(each.image), each.id))
    return Corrections(folder, tuple(found), hashlib.sha256(content).hexdigest(), tuple(warnings))


def _summary(path: Path, flaws: list[str]) -> str:
    more = f"; and {len(flaws) - _SHOWN} more" if len(flaws) > _SHOWN else ""
    return f"{path} has {len(flaws)} flaw{'s' * (len(flaws) > 1)}: {'; '.join(flaws[:_SHOWN])}{more}."


def _record(line: bytes) -> dict[str, Any]:
    """A line's object, its form checked. Raises ValueError with a clause that names the member."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not valid JSON in UTF-8") from error
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    for member in record:
        if member not in MEMBERS:
            raise ValueError(f"{member!r:.40} is no member of a correction; it may hold {', '.join(MEMBERS)}")
    if not isinstance(record.get("id"), str) or not record["id"]:
        raise ValueError('"id" must be a text')
    if not isinstance(record.get("deleted", False), bool):
        raise ValueError('"deleted" must be true or false')
    for member in ("caption", "category", "by", "at"):
        said = record.get(member)
        if said is not None and not (isinstance(said, str) and said.strip()):
            raise ValueError(f'"{member}" must be a text that is not empty; leave it out where it was not judged')
    for member in ("tags", "attributes"):
        words = record.get(member) or []
        if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
            raise ValueError(f'"{member}" must be a list of texts')
    return record


class _ImageReader:
    """Checks each image of a folder once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sizes: dict[str, ImageSize] = {}

    def size(self, name: str, digest: str) -> ImageSize:
        """(width, height) of the upright image. Raises ValueError for one that is missing, damaged or another."""
        if name not in self._sizes:
            path = self.folder / name
            try:
                info = annotated_info(path)
                content = path.read_bytes()
            except AnnotatedImageError as error:
                raise ValueError(f'"image": {error}') from error
            if hashlib.sha256(content).hexdigest()[: len(digest)] != digest:
                raise ValueError(f'"image": {name} is another file than the one that was corrected, by its digest')
            self._sizes[name] = (info.width, info.height)
        return self._sizes[name]


def _correction(where: str, record: Mapping[str, Any], reader: _ImageReader) -> Correction:
    name, box = record.get("image"), record.get("box")
    found = _IMAGE_NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError('"image" must be "images/" and the first 32 digits of the file\'s SHA-256 with its ending')
    numbers = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    if not numbers or not all(map(math.isfinite, box or ())):
        raise ValueError('"box" must be four finite numbers: x1, y1, x2, y2 in pixels of the upright image')
    size = reader.size(found.string, found[1])
    try:
        inside = Box(*(float(value) for value in box or ())).clip(size)
    except QueryError as error:
        raise ValueError(f'"box": {str(error).removesuffix(".")}') from error
    corners = (inside.x1, inside.y1, inside.x2, inside.y2)
    lists = {name: None if record.get(name) is None else tuple(record[name]) for name in ("tags", "attributes")}
    return Correction(
        record["id"], reader.folder / found.string, found[1], corners, _said(record, "caption"),
        _said(record, "category"), lists["tags"], lists["attributes"], where,
    )  # fmt: skip


def _said(record: Mapping[str, Any], member: str) -> str | None:
    return " ".join(record[member].split()) if record.get(member) is not None else None


def _pixels(path: Path) -> Pixels:
    return annotated_image(path).pixels
