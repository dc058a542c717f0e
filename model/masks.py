"""The mask of a region: which pixels of the image belong to it. No torch, no NumPy at import."""

from __future__ import annotations

from dataclasses import dataclass

from dynrefer.model.records import JsonRecord


@dataclass(frozen=True, slots=True)
class RegionMask(JsonRecord):
    """A mask as COCO's compressed run lengths, down the columns, background first.

    size: (height, width) of the upright image. counts: the compressed text.
    """

    size: tuple[int, int]
    counts: str
