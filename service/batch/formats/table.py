"""Tables of boxes (CSV, TSV), a row per box, whose header says what the columns are."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dynrefer.service.batch.box_table import BoxTable, identifier_of
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Item

# As the columns may be called, in lower case; the first that is there counts.
FILES = ("image", "file", "filename", "file_name", "image_path", "path", "img", "image_name", "image_id", "imageid")
LABELS = ("label", "class", "class_name", "category", "name", "labelname")
IDS = ("id", "region_id", "box_id", "annotation_id")
BOXES = (
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("cxcywh", ("x_center", "y_center", "width", "height")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("x", "y", "width", "height")),
    ("xywh", ("left", "top", "width", "height")),
)


@dataclass(frozen=True)
class TableSource:
    """file: the table. images: the folder that the files are relative to."""

    file: Path
    images: Path
    format: str = "csv"

    def items(self) -> Iterator[Item]:
        """See `ItemSource`."""
        return self._table.items(self.images)

    @cached_property
    def _table(self) -> BoxTable:
        return _read(self.file)


def _read(file: Path) -> BoxTable:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
            opened.seek(0)
            rows = csv.reader(opened, delimiter=max(",;\t", key=first.count))
            return _table(rows, file)
    except OSError as error:
        raise BatchError(f"cannot read {file}: {(error.strerror or str(error)).lower()}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BatchError(f"{file} is not a table in UTF-8: {error}.") from None


def _table(rows: Iterator[list[str]], file: Path) -> BoxTable:
    header = [name.strip().lower() for name in next(rows, [])]
    notation, columns = _box_columns(header, file)
    named = _column(header, FILES)
    if named is None:
        raise BatchError(f"{file}: no column names the image; call one of them `image`.")
    label, identity = _column(header, LABELS), _column(header, IDS)
    table = BoxTable({"box_format": notation})
    for row in rows:
        if not any(row):
            continue
        cells = row + [""] * (len(header) - len(row))
        table.add(
            table.image(cells[named]),
            [cells[column] for column in columns],
            None if label is None else cells[label] or None,
            None if identity is None else identifier_of(cells[identity]),
        )
    return table


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _box_columns(header: list[str], file: Path) -> tuple[str, list[int]]:
    """How the boxes are written, and in which columns."""
    for notation, names in BOXES:
        if all(name in header for name in names):
            return notation, [header.index(name) for name in names]
    raise BatchError(f"{file}: no columns hold boxes; call them x1,y1,x2,y2 or x,y,width,height.")
