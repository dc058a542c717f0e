"""The members of data files: JSON values -> typed values. What is accepted for each is decided here alone.

docs/evaluation.md has the table. Functions raise `BadSampleError` with a clause that names the member, or ValueError
where the caller knows the name.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import ImageSize, box_from_polygons
from dynrefer.model.run_lengths import box_from_rle
from dynrefer.model.types import Corners
from dynrefer.workbench.errors import BadSampleError

MAX_SIDE = 2**31 - 1  # pixels of a listed width or height; tables keep them as int32
MAX_EXACT = 2**53  # above it a float stands for several whole numbers
# Numbers as tables export them. Leading zeros are part of a name ("000139"), not of a number.
_DIGITS = re.compile(r"\s*(-?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?\s*")
_DECIMAL = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*")

Id = int | str  # of an image, an annotation or a category, in one spelling


def shown(identifier: object) -> str:
    """A text that any file can hold; of lists and objects only the beginning."""
    text = identifier if isinstance(identifier, str) else reprlib.repr(identifier)
    return text.encode("utf-8", "backslashreplace").decode()


def identifier_of(value: object) -> Id | None:
    """A whole number or a text; None for anything else. 7, 7.0 and "7" are one id, because tools turn one into another:
    a column of ids with a gap becomes floats, and the keys of a JSON object texts."""
    try:
        return whole_number(value)
    except ValueError:
        return value if isinstance(value, str) and value else None


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
    caption = members.get("caption")
    if caption is None:
        return ()
    if isinstance(caption, str):
        return (caption,)
    if not are_texts(caption):
        raise BadSampleError("its caption is neither a text nor a list of texts")
    return tuple(caption)


def listed_size(entry: Mapping[str, Any]) -> ImageSize | None:
    """The size of an entry of `images`; None unless both sides are there and above 0."""
    width, height = _side(entry, "width"), _side(entry, "height")
    if max(width, height) > MAX_SIDE:
        raise BadSampleError(f"listed width or height is above {MAX_SIDE} pixels")
    return (width, height) if min(width, height) > 0 else None


def _side(entry: Mapping[str, Any], name: str) -> int:
    """In pixels; 0 where it is not listed."""
    value = entry.get(name)
    try:
        side = 0 if value is None else whole_number(value)
    except ValueError as error:
        raise BadSampleError(f"listed {name} {reprlib.repr(value)} is not a whole number of pixels") from error
    if side < 0:
        raise BadSampleError(f"listed {name} {side} is below 0")
    return side


def whole_number(value: object) -> int:
    """A whole number, also as tables export it: 160.0, "160". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT:
        return int(value)
    if isinstance(value, str) and (digits := _DIGITS.fullmatch(value)):
        return int(digits[1])
    raise ValueError(f"{reprlib.repr(value)} is not a whole number")


def number_of(value: object) -> float:
    """A finite number, also as a text ("12.5"), as tables and XML export it. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{reprlib.repr(value)} is not a number")
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise ValueError(f"{reprlib.repr(value)} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{reprlib.repr(value)} is not a finite number")
    return number


def flag_of(members: Mapping[str, Any], name: str) -> bool:
    """0 or 1, or false or true; false where it is not there."""
    value = members.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    try:
        if (number := whole_number(value)) in (0, 1):
            return bool(number)
    except ValueError:
        pass
    raise BadSampleError(f"its {name} {reprlib.repr(value)} is neither 0 nor 1")


def optional_number(members: Mapping[str, Any], name: str) -> float | None:
    """A finite number; None where it is not there."""
    value = members.get(name)
    try:
        return None if value is None else number_of(value)
    except ValueError as error:
        raise BadSampleError(f"its {name} {error}") from error


def whole_numbers(values: object) -> list[int]:
    """A list of them. Raises ValueError."""
    if not isinstance(values, list):
        raise ValueError(f"{reprlib.repr(values)} is not a list")
    return [whole_number(value) for value in values]


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        raise ValueError(f"{reprlib.repr(values)} is not a list")
    return [number_of(value) for value in values]


def bbox_of(value: object) -> list[float] | None:
    """Four numbers, of whatever format; None where the annotation has none."""
    if value is None or value == []:
        return None
    try:
        a, b, c, d = _numbers(value)
    except ValueError as error:
        raise BadSampleError("its bbox is not a list of four finite numbers") from error
    return [a, b, c, d]


def segmentation_box(value: object) -> Corners | None:
    """The box around polygons or around a run-length mask, xyxy pixels; None where the annotation has neither.

    Polygons are lists [x, y, x, y, ...] or lists of points [[x, y], ...]; a single one need not be in a list of its
    own. A mask is {"size": [height, width], "counts": ...}. Raises `BadSampleError` for what gives no box.
    """
    if value is None or value == [] or value == {}:
        return None
    try:
        if isinstance(value, list):
            return box_from_polygons(_polygons(value))
        if isinstance(value, dict):
            return box_from_rle(_run_lengths(value))
    except BoxError as error:
        raise BadSampleError(str(error).rstrip(".")) from error
    except OverflowError as error:
        raise BadSampleError("its segmentation holds a number beyond 64 bits") from error
    except (ValueError, KeyError):
        pass
    raise BadSampleError("its segmentation is malformed: it needs polygons of finite numbers, or size and counts")


def _polygons(value: list[Any]) -> list[list[float]]:
    polygons = value if isinstance(value[0], list) else [value]
    return [_coordinates(polygon) for polygon in polygons]


def _coordinates(polygon: object) -> list[float]:
    """x, y, x, y, ... of a polygon in either form."""
    if isinstance(polygon, list) and polygon and all(isinstance(point, list) for point in polygon):
        if any(len(point) != 2 for point in polygon):
            raise ValueError(f"{reprlib.repr(polygon)} is not a list of points")
        return [number_of(value) for point in polygon for value in point]
    return _numbers(polygon)


def _run_lengths(value: Mapping[str, Any]) -> dict[str, Any]:
    height, width = whole_numbers(value["size"])
    if min(height, width) < 1:
        raise ValueError("a mask has rows and columns")
    counts = value["counts"]
    return {"size": [height, width], "counts": counts if isinstance(counts, str) else whole_numbers(counts)}
