"""Parquet: a row per region, in row groups, for pandas, DuckDB, Spark and whatever else reads columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dynrefer.service.batch.answers import Answers
from dynrefer.service.batch.items import Line

ROW_GROUP = 5_000  # rows that are in memory at a time
_AS_THEY_ARE = (
    "label",
    "box",
    "clipped",
    "tags",
    "attributes",
    "categories",
    "views",
    "view_policy",
    "mask",
    "score",
    "probability",
    "phrase",
    "category",
    "parent",
)


def write_parquet(path: Path, answers: Answers) -> None:
    """Images without regions have no row; a region that failed has its `error`. Needs the extra `batch`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, rows = _schema(), _rows(answers)
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _schema() -> Any:
    """A `pyarrow.Schema`."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    name, score, probability = ("name", text), ("score", number), ("probability", number)
    labels = pa.list_(pa.struct([name, score, probability]))
    attributes = pa.list_(pa.struct([name, ("type", text), ("value", text), score, probability]))
    columns: list[tuple[str, Any]] = [
        ("file", text),
        ("image_id", text),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("region", text),
        ("label", text),
        ("box", pa.list_(number)),  # xyxy pixels
        ("clipped", pa.bool_()),
        ("caption", text),
        ("caption_score", number),
        ("caption_name", text),
        ("caption_probability", number),
        ("tags", labels),
        ("attributes", attributes),
        ("categories", labels),
        ("views", pa.list_(pa.struct([("t", number), ("box", pa.list_(number))]))),
        ("view_policy", text),
        ("mask", pa.struct([("size", pa.list_(pa.int32())), ("counts", text)])),  # COCO's run lengths
        score,  # from here on of regions that were found
        probability,
        ("phrase", text),
        ("category", text),
        ("parent", text),
        ("error", text),
    ]
    return pa.schema(columns)


def _rows(answers: Answers) -> Iterator[dict[str, Any]]:
    for line in answers.lines():
        of_image = _image_columns(line)
        for region in line["regions"]:
            yield {**of_image, **_region_columns(region)}


def _image_columns(line: Line) -> dict[str, Any]:
    size = line["image"]
    name = line.get("id")
    return {
        "file": _text(line["file"]),
        "image_id": None if name is None else _text(str(name)),
        "image_width": size["width"],
        "image_height": size["height"],
    }


def _region_columns(region: dict[str, Any]) -> dict[str, Any]:
    columns = {name: region[name] for name in _AS_THEY_ARE if name in region}
    columns["region"] = region["id"]
    if caption := region.get("caption"):
        columns["caption"] = caption["text"]
        for member in ("score", "name", "probability"):
            columns[f"caption_{member}"] = caption.get(member)
    if error := region.get("error"):
        columns["error"] = error["detail"]
    return columns


def _text(text: str) -> str:
    """As UTF-8 can write it: a file name may hold half of a character."""
    return text.encode("utf-8", "backslashreplace").decode()
