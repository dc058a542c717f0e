"""The JSON of annotations and the lines of captions, as samples with a name each; what they say is read elsewhere."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.workbench.errors import DataError


@dataclass(frozen=True)
class CaptionLine:
    """One line of the captions file, unchecked."""

    caption: Any
    tags: Any


def read_document(path: Path) -> dict[str, Any]:
    """COCO-style JSON with lists of images, annotations and, if there are any, categories. Raises `DataError`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8 or not JSON
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply; it must be COCO-style annotations.") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} is not a JSON object with images and annotations.")
    for key in ("images", "annotations"):
        if not isinstance(document.get(key), list):
            raise DataError(f"{path} has no list of {key}; it must be COCO-style annotations.")
    if not isinstance(document.get("categories") or [], list):
        raise DataError(f"the categories of {path} are not a list; mend or remove them.")
    return document


def named_samples(document: Mapping[str, Any], captions: Path | None) -> Iterator[tuple[str, Any, CaptionLine | None]]:
    """Name, annotation and caption; with a captions file one sample for each of its lines. No name comes twice."""
    annotations = document["annotations"]
    if captions is None:
        for name, annotation in zip(_names(annotations), annotations, strict=True):
            yield name, annotation, None
        return
    known = {a["id"]: a for a in annotations if isinstance(a, dict) and isinstance(a.get("id"), int | str)}
    for number, line in _lines(captions):
        where = f"line {number} of {captions.name}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            yield where, None, CaptionLine(None, None)
            continue
        entry = entry if isinstance(entry, dict) else {}
        identifier = entry.get("annotation_id")
        found = known.get(identifier) if isinstance(identifier, int | str) else None
        yield f"{where} (annotation {_shown(identifier)})", found, CaptionLine(entry.get("caption"), entry.get("tags"))


def _lines(path: Path) -> list[tuple[int, str]]:
    """Those that are not blank, with their numbers from 1. Not by `splitlines`, which also cuts inside of texts."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not UTF-8 text.") from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _names(annotations: list[Any]) -> Iterator[str]:
    """By id, with the position where an earlier one has it too; by position where there is none."""
    seen = set()
    for position, annotation in enumerate(annotations):
        place = f"annotations[{position}]"
        identifier = annotation.get("id") if isinstance(annotation, dict) else None
        if not isinstance(identifier, int | str):
            yield place
            continue
        name = f"annotation {_shown(identifier)}"
        yield f"{name} at {place}" if name in seen else name
        seen.add(name)


def _shown(identifier: object) -> str:
    """A text that any file can hold; of lists and objects only the beginning."""
    text = identifier if isinstance(identifier, str) else reprlib.repr(identifier)
    return text.encode("utf-8", "backslashreplace").decode()
