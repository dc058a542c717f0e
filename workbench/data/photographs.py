"""Labelled photographs for measuring: a folder with `labels.json` and the pictures that it names.

Two layouts of an entry are read, told apart by the member `boxes`:

- several boxes, as in benchmarks/photographs: `file`, `split`, `size`, `source`, `author`, `licence`,
  `licence_stated` (where in the source), and `boxes` of `box`, `accepted`, `parents`, `colours` and perhaps `scene`;
- one box: `file`, `size`, `box`, `accepted`, `licence`, and perhaps what a box or a photograph of the other layout has;
  a file with several boxes has an entry for each.

A member that is missing, unknown or of another form is refused: a misspelt one would drop its labels in silence.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import Box, ImageSize
from dynrefer.model.types import Corners
from dynrefer.workbench.data.json_files import read_json
from dynrefer.workbench.errors import DataError

LABELS_FILE = "labels.json"
COLOURS = frozenset(
    ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "beige")
)

_PHOTOGRAPH_MEMBERS = frozenset(("file", "split", "size", "source", "author", "licence", "licence_stated", "boxes"))
_BOX_MEMBERS = frozenset(("box", "accepted", "parents", "colours"))
_ONE_BOX_MEMBERS = frozenset(("file", "size", "box", "accepted", "licence"))
_ONE_BOX_MORE = frozenset(("parents", "colours", "scene", "split", "source", "author", "licence_stated"))


class Split(StrEnum):
    """What a photograph may be used for: to fit thresholds and probabilities, or only to measure."""

    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """box: xyxy pixels of the upright picture, inside it.

    accepted: the names that count as right, lower case, at least one. parents: broader words that are true.
    colours: of `COLOURS`, those that may be said of it; empty: its colour is not labelled. scene: of its surroundings.
    """

    box: Corners
    accepted: tuple[str, ...]
    parents: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    scene: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledPhotograph:
    """path: of the picture. size: its (width, height) in pixels, as listed. split: None where the file has none.

    licence: as its source states it.
    """

    path: Path
    size: ImageSize
    licence: str
    split: Split | None
    boxes: tuple[LabelledBox, ...]


def read_photographs(directory: Path) -> tuple[LabelledPhotograph, ...]:
    """The photographs that `labels.json` in `directory` lists, in its order; the pictures are not opened.

    Raises `DataError` naming the file, the entry and the member: it cannot be used, or the picture is not there.
    """
    file = directory / LABELS_FILE
    entries = read_json(file)
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{file} is not a list of photographs.")
    found: dict[str, LabelledPhotograph] = {}
    for place, members in enumerate(entries):
        where = f"{file}, entry {place}"
        if not isinstance(members, dict):
            raise DataError(f"{where}: it is not a JSON object.")
        name = _text(members, "file", where)
        where = f"{where} ({name})"
        photograph = _photograph(directory, members, where)
        found[name] = _joined(found[name], photograph, members, where) if name in found else photograph
    return tuple(found.values())


def _joined(
    earlier: LabelledPhotograph, later: LabelledPhotograph, members: Mapping[str, Any], where: str
) -> LabelledPhotograph:
    """A photograph with the box of another entry of its file."""
    if "boxes" in members:
        raise DataError(f"{where}: file is that of an earlier entry.")
    if (earlier.size, earlier.split) != (later.size, later.split):
        raise DataError(f"{where}: size or split differ from those of an earlier entry of this file.")
    return replace(earlier, boxes=(*earlier.boxes, *later.boxes))


def _photograph(directory: Path, members: Mapping[str, Any], where: str) -> LabelledPhotograph:
    several = "boxes" in members
    if several:
        _check_members(members, _PHOTOGRAPH_MEMBERS, where)
    else:
        _check_members(members, _ONE_BOX_MEMBERS, where, optional=_ONE_BOX_MORE)
    name = _text(members, "file", where)
    path = directory / name
    # `labels.json` may come from elsewhere: it must not make us open other files of the machine.
    if path.name != name:
        raise DataError(f"{where}: file must be the name of a file in the folder of {LABELS_FILE}.")
    if not path.is_file():
        raise DataError(f"{where}: file is not in the folder of {LABELS_FILE}.")
    size = _size(members, where)
    if several:
        for member in ("source", "author", "licence_stated"):
            _text(members, member, where)
        boxes = _boxes(members["boxes"], size, where)
    else:
        boxes = (_box({"parents": [], "colours": [], **members}, size, where),)
    split = _split(members, where) if "split" in members else None
    return LabelledPhotograph(path, size, _text(members, "licence", where), split, boxes)


def _boxes(entries: Any, size: ImageSize, where: str) -> tuple[LabelledBox, ...]:
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{where}: boxes must be a list with at least one box.")
    return tuple(_labelled_box(entry, size, f"{where}, boxes[{place}]") for place, entry in enumerate(entries))


def _labelled_box(members: Any, size: ImageSize, where: str) -> LabelledBox:
    if not isinstance(members, dict):
        raise DataError(f"{where}: it is not a JSON object.")
    _check_members(members, _BOX_MEMBERS, where, optional=frozenset(("scene",)))
    return _box(members, size, where)


def _box(members: Mapping[str, Any], size: ImageSize, where: str) -> LabelledBox:
    colours = _texts(members, "colours", where, least=0)
    if unknown := [colour for colour in colours if colour not in COLOURS]:
        raise DataError(f"{where}: colours has {unknown[0]!r}; it must be one of {', '.join(sorted(COLOURS))}.")
    accepted, parents = _texts(members, "accepted", where), _texts(members, "parents", where, least=0)
    if both := [name for name in parents if name in accepted]:
        raise DataError(f"{where}: parents has {both[0]!r}, which is also in accepted; name it once.")
    scene = _texts(members, "scene", where, least=0) if "scene" in members else ()
    return LabelledBox(_corners(members, size, where), accepted, parents, colours, scene)


def _check_members(
    members: Mapping[str, Any], required: frozenset[str], where: str, *, optional: frozenset[str] = frozenset()
) -> None:
    if missing := sorted(required - members.keys()):
        raise DataError(f"{where}: {missing[0]} is missing.")
    if unknown := sorted(members.keys() - required - optional):
        raise DataError(f"{where}: {unknown[0]!r} is not a member that is read; correct or remove it.")


def _text(members: Mapping[str, Any], member: str, where: str) -> str:
    value = members.get(member)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {member} must be a text that is not blank.")
    return value


def _texts(members: Mapping[str, Any], member: str, where: str, *, least: int = 1) -> tuple[str, ...]:
    """Lower case, without repetition, at least `least`."""
    values = members[member]
    if not isinstance(values, list) or not all(isinstance(v, str) and v.strip() and v == v.lower() for v in values):
        raise DataError(f"{where}: {member} must be a list of texts in lower case, not {reprlib.repr(values)}.")
    if len(values) < least:
        raise DataError(f"{where}: {member} must hold at least one text.")
    if len(set(values)) < len(values):
        raise DataError(f"{where}: {member} holds a text twice.")
    return tuple(values)


def _size(members: Mapping[str, Any], where: str) -> ImageSize:
    value = members["size"]
    if not isinstance(value, list) or len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
        raise DataError(f"{where}: size must be [width, height] in whole pixels, not {reprlib.repr(value)}.")
    return value[0], value[1]


def _split(members: Mapping[str, Any], where: str) -> Split:
    try:
        return Split(members["split"])
    except ValueError as error:
        names = " or ".join(repr(split.value) for split in Split)
        raise DataError(f"{where}: split must be {names}, not {reprlib.repr(members['split'])}.") from error


def _corners(members: Mapping[str, Any], size: ImageSize, where: str) -> Corners:
    value = members["box"]
    if not isinstance(value, list) or len(value) != 4 or not all(type(side) in (int, float) for side in value):
        raise DataError(f"{where}: box must be [x1, y1, x2, y2], not {reprlib.repr(value)}.")
    try:
        box = Box(*(float(side) for side in value))
    except (BoxError, OverflowError) as error:
        raise DataError(f"{where}: box {reprlib.repr(value)} is inverted, empty or not finite.") from error
    width, height = size
    if box.x1 < 0 or box.y1 < 0 or box.x2 > width or box.y2 > height:
        raise DataError(f"{where}: box {value} reaches beyond the picture of {width} x {height} pixels.")
    return box.corners
