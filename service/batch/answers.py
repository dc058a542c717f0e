"""The answers of a run as the writers of formats see them: in the order of the input, read anew from the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.model import LIKELY
from dynrefer.service.batch.items import Digest, Line
from dynrefer.service.batch.journal import Journal

UNNAMED = "object"  # a region of which only a caption was asked
_DIGEST_BYTES = 16


class Order:
    """The items of an input in their order, 16 bytes each."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def append(self, digest: Digest) -> None:
        """The next item."""
        self._digests += digest

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST_BYTES

    def __iter__(self) -> Iterator[Digest]:
        for start in range(0, len(self._digests), _DIGEST_BYTES):
            yield bytes(self._digests[start : start + _DIGEST_BYTES])


@dataclass(frozen=True)
class Answers:
    """images: the folder that the images' names are relative to."""

    journal: Journal
    order: Order
    images: Path

    def lines(self) -> Iterator[Line]:
        """The images that were answered: `file`, `image`, `regions`, and `id` where the input has one. Each call begins
        anew."""
        return (line for line in self.journal.lines(self.order) if "error" not in line)

    def failures(self) -> Iterator[Line]:
        """The images, and the regions of the others, that were not answered."""
        for line in self.journal.lines(self.order):
            about: Line = {key: line[key] for key in ("file", "id") if key in line}
            if "error" in line:
                yield {**about, "reason": line["error"]["detail"], "type": line["error"]["type"]}
                continue
            for region in failed_regions(line):
                error = region["error"]
                kind = error["type"].rsplit(":", 1)[-1]
                yield {**about, "region": region["id"], "reason": error["detail"], "type": kind}


def described_regions(line: Line) -> Iterator[dict[str, Any]]:
    """The regions of an image that were answered."""
    return (region for region in line["regions"] if "error" not in region)


def failed_regions(line: Line) -> Iterator[dict[str, Any]]:
    """The others."""
    return (region for region in line["regions"] if "error" in region)


def name_of(region: Mapping[str, Any]) -> str:
    """What an annotation calls a region: what the input, or whoever asked for it, calls it; else its best category, or
    its best tag."""
    if label := region.get("label"):
        return str(label)
    for task in ("categories", "tags"):
        if found := region.get(task):
            return str(found[0]["name"])
    return UNNAMED


def score_of(region: Mapping[str, Any]) -> float | None:
    """How likely it is right that the region is what an annotation calls it; None where nothing says so: the input's
    own names have no score."""
    if "probability" in region:  # it was found
        return float(region["probability"])
    if "label" not in region and (found := region.get("categories") or region.get("tags")):
        return float(found[0]["probability"])
    return None


def attributes_of(region: Mapping[str, Any]) -> dict[str, str]:
    """The best likely value of each type of attribute."""
    found: dict[str, str] = {}
    for label in region.get("attributes") or ():
        if label["probability"] >= LIKELY:
            found.setdefault(str(label.get("type") or label["name"]), str(label.get("value") or label["name"]))
    return found


def caption_of(region: Mapping[str, Any]) -> str | None:
    """Its caption, where one was asked for."""
    found = region.get("caption")
    return None if found is None else str(found["text"])


def tags_of(region: Mapping[str, Any]) -> list[str]:
    """The names of its tags."""
    return [label["name"] for label in region.get("tags") or ()]


def xywh(region: Mapping[str, Any]) -> list[float]:
    """Its box as COCO writes boxes: x, y, width and height in pixels."""
    x1, y1, x2, y2 = region["box"]
    return [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
