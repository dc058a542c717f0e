"""The members of annotation files: JSON values -> typed values. What is accepted for each is decided here alone.

Functions raise `BadSampleError` with a clause that names the member.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from dynrefer.model.geometry import ImageSize
from dynrefer.workbench.errors import BadSampleError

MAX_SIDE = 2**31 - 1  # pixels of a listed width or height; tables keep them as int32
_DIGITS = re.compile(r"\s*(\d+)(\.0*)?\s*")

Id = int | str  # of an image, an annotation or a category, as the file has it


def shown(identifier: object) -> str:
    """A text that any file can hold; of lists and objects only the beginning."""
    text = identifier if isinstance(identifier, str) else reprlib.repr(identifier)
    return text.encode("utf-8", "backslashreplace").decode()


def identifier_of(value: object) -> Id | None:
    """A whole number or a text; None for anything else."""
    return value if isinstance(value, int | str) else None


def are_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def check_text(text: str, what: str) -> None:
    """Refuse a lone surrogate: JSON can hold one, but no file name and no tokenizer can. what: the text, named."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadSampleError(f"{what} holds half of a character (a lone surrogate)") from error


def captions_of(members: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions of an annotation: none, one, or a list of them; they may be blank."""
    caption = members.get("caption", [])
    if isinstance(caption, str):
        return (caption,)
    if not are_texts(caption):
        raise BadSampleError("its caption is neither a text nor a list of texts")
    return tuple(caption)


def listed_size(entry: Mapping[str, Any]) -> ImageSize | None:
    """The size of an entry of `images`; None unless both sides are there and positive."""
    width, height = _side(entry, "width"), _side(entry, "height")
    if max(width, height) > MAX_SIDE:
        raise BadSampleError(f"listed width or height is above {MAX_SIDE} pixels")
    return (width, height) if min(width, height) > 0 else None


def _side(entry: Mapping[str, Any], name: str) -> int:
    """In pixels; 0 where it is not listed."""
    value = entry.get(name)
    try:
        return 0 if value is None else _whole_number(value)
    except ValueError as error:
        raise BadSampleError(f"listed {name} {reprlib.repr(value)} is not a whole number of pixels") from error


def _whole_number(value: object) -> int:
    """A whole number, also as tables export it: 160.0, "160". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (digits := _DIGITS.fullmatch(value)):
        return int(digits[1])
    raise ValueError


def _whole_numbers(values: object) -> list[int]:
    if not isinstance(values, list):
        raise ValueError
    return [_whole_number(value) for value in values]


def _numbers(values: object) -> list[float]:
    """Finite numbers, no texts that look like them. Raises ValueError."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise ValueError
    if not all(math.isfinite(value) for value in values):
        raise ValueError
    return [float(value) for value in values]


def bbox_of(value: object) -> list[float] | None:
    """Four numbers, of whatever format; None where the annotation has none."""
    if value is None:
        return None
    try:
        a, b, c, d = _numbers(value)
    except (ValueError, OverflowError) as error:
        raise BadSampleError("its bbox is not a list of four finite numbers") from error
    return [a, b, c, d]


def segmentation_of(value: object) -> list[list[float]] | dict[str, Any] | None:
    """Polygons, [x, y, x, y, ...] each, or run lengths, {"size": [height, width], "counts": ...}; None for none."""
    if value is None or value == []:
        return None
    try:
        if isinstance(value, list):
            return [_numbers(polygon) for polygon in value]
        if isinstance(value, dict):
            height, width = _whole_numbers(value["size"])
            counts = value["counts"]
            return {"size": [height, width], "counts": counts if isinstance(counts, str) else _whole_numbers(counts)}
    except (ValueError, KeyError, OverflowError):
        pass
    raise BadSampleError("its segmentation is malformed: it needs polygons of finite numbers, or size and counts")
