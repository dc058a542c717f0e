"""Polygons, scribbles and masks as requests write them -> the model's prompts, with a pointer to every flaw.

Numbers stay as they were given: only where the image is decoded its size is known. Neither is a mask decoded here, but
for its Base64.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from dynrefer.model import AlphaMask, MaskFile, Polygon, RegionMask, Scribble, compressed_runs
from dynrefer.service.api.schemas import PromptedRegionIn, RegionIn
from dynrefer.service.errors import FieldError
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.settings import Settings

GREATEST = 1e15  # as of a box: coordinates are below it
MOST_PIXELS = 1 << 40  # of a run, and of a mask's side: more than any image has
HIGHLIGHTED = ("polygon", "mask", "points")  # what says where the object ends

BytesOf = Callable[[str], bytes]
Region = TypeVar("Region", bound=PromptedRegionIn)
_READ_NUMBERS = "a list of [x, y] pairs, or of numbers x, y, x, y, ..."


class _FlawError(Exception):
    """A flaw. place: below the field, such as "/png"."""

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.place = place


def read_region_prompts(
    regions: Sequence[Region], settings: Settings, bytes_of: BytesOf
) -> tuple[list[Region], list[FieldError]]:
    """The regions with `Polygon`, `Scribble`, `RegionMask`, `MaskFile` or `AlphaMask` in place of what was given.

    bytes_of: a text of the document, which may stand for a long one -> its bytes.
    """
    read, errors = list(regions), []
    for place, region in enumerate(regions):
        highlight = isinstance(region, RegionIn) and region.highlight
        if highlight and not any(getattr(region, name) is not None for name in HIGHLIGHTED):
            detail = "Only a region with a polygon, a mask or points can be highlighted."
            errors.append(FieldError(f"/regions/{place}/highlight", detail))
            continue
        for name in ("polygon", "scribble", "mask"):
            given = getattr(region, name)
            if given is None:
                continue
            try:
                prompt = _mask(given, bytes_of) if name == "mask" else _drawn(name, given, settings.max_prompt_points)
                read[place] = region.model_copy(update={name: prompt})
            except _FlawError as flaw:
                errors.append(FieldError(f"/regions/{place}/{name}{flaw.place}", str(flaw)))
    return read, errors


def _drawn(name: str, given: Any, most: int) -> Polygon | Scribble:
    lines = _lines(name, given, most)
    return Polygon(lines) if name == "polygon" else Scribble(lines)


def _lines(name: str, given: Any, most: int) -> tuple[tuple[float, ...], ...]:
    """One line or several, each as x, y, x, y, ...; a list whose members are pairs of numbers is one line."""
    part, least = ("ring", 3) if name == "polygon" else ("line", 2)
    if not isinstance(given, list):
        raise _FlawError(f"A {name} is a list of {part}s, each {_READ_NUMBERS}.")
    if not given:
        raise _FlawError(f"The {name} is empty: at least one {part} of {least} points is needed.")
    if _are_numbers(given) or all(_is_pair(member) for member in given):
        members, places = [given], [""]
    else:
        members, places = given, [f"/{place}" for place in range(len(given))]
    points = sum(_num_points(member) for member in members)
    if points > most:
        raise _FlawError(f"The {name} has {points} points; at most {most} are accepted.")
    return tuple(_line(name, part, least, member, place) for member, place in zip(members, places, strict=True))


def _line(name: str, part: str, least: int, given: Any, place: str) -> tuple[float, ...]:
    if isinstance(given, list) and given and all(_is_pair(member) for member in given):
        given = [number for pair in given for number in pair]
    if not isinstance(given, list) or not _are_numbers(given):
        raise _FlawError(f"A {part} of a {name} is {_READ_NUMBERS}.", place)
    if len(given) % 2:
        raise _FlawError(f"The {part} has {len(given)} numbers: a y is missing.", place)
    if len(given) < 2 * least:
        raise _FlawError(f"A {part} needs at least {least} points, and this one has {len(given) // 2}.", place)
    if not all(abs(number) < GREATEST for number in given):  # NaN and infinities too
        raise _FlawError(f"The numbers of a {name} must be finite and below 1e15.", place)
    return tuple(map(float, given))


def _num_points(member: Any) -> int:
    if not isinstance(member, list):
        return 0
    return len(member) if member and isinstance(member[0], list) else len(member) // 2


def _is_pair(member: Any) -> bool:
    return isinstance(member, list) and len(member) == 2 and _are_numbers(member)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _mask(given: Any, bytes_of: BytesOf) -> RegionMask | MaskFile | AlphaMask:
    if given == "alpha":
        return AlphaMask()
    if not isinstance(given, dict):
        raise _FlawError('A mask is {"size": [height, width], "counts": ...}, {"png": "..."} or "alpha".')
    for name in given:
        if name not in ("size", "counts", "png"):
            raise _FlawError(f"Unknown field '{printable(name)}'.", f"/{_escaped(name)}")
    if "png" in given:
        if len(given) > 1:
            raise _FlawError("Give either 'png' or 'size' and 'counts', not both.")
        return MaskFile(_png(given["png"], bytes_of))
    for name in ("size", "counts"):
        if name not in given:
            raise _FlawError("This field is required.", f"/{name}")
    return _run_lengths(given["size"], given["counts"])


def _escaped(name: str) -> str:
    return printable(name).replace("~", "~0").replace("/", "~1")


def _png(text: Any, bytes_of: BytesOf) -> bytes:
    if not isinstance(text, str):
        raise _FlawError("A text is expected.", "/png")
    try:
        png = decode_base64(bytes_of(text))
    except Base64Error as error:
        raise _FlawError(f"This is not standard Base64: the text {error}.", "/png") from None
    if not png:
        raise _FlawError("The mask is empty.", "/png")
    return png


def _run_lengths(size: Any, counts: Any) -> RegionMask:
    if not (isinstance(size, list) and len(size) == 2 and all(type(s) is int and 0 < s < MOST_PIXELS for s in size)):
        raise _FlawError("The size of a mask is [height, width], two whole numbers above 0.", "/size")
    height, width = size
    if isinstance(counts, str):
        if not counts:
            raise _FlawError("The run lengths of the mask are empty.", "/counts")
        return RegionMask((height, width), counts)
    if not isinstance(counts, list) or not all(type(run) is int and 0 <= run < MOST_PIXELS for run in counts):
        raise _FlawError(
            "The counts of a mask are COCO's compressed text, or a list of whole numbers from 0.", "/counts"
        )
    if sum(counts) != height * width:
        detail = f"The run lengths add up to {sum(counts)} pixels; {width} x {height} are {width * height}."
        raise _FlawError(detail, "/counts")
    return RegionMask((height, width), compressed_runs(np.array(counts, dtype=np.int64)))
