"""The few facts that are read from an image file's metadata: its orientation, and the directories of TIFF. No torch.

EXIF is laid out as TIFF is: a header, then directories of entries (tag, type, number of values, value or its place).
Only integers that stand in the entry itself are read, so that damaged or hostile metadata costs next to nothing.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ORIENTATION = 0x0112
UPRIGHT = 1

ASCII = 2
INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q"}  # TIFF's type -> that of `struct`
HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # -> byte order; + is BigTIFF
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Where things stand in a TIFF file. order: of the bytes, as `struct` writes it. first: offset of the first
    directory."""

    order: str
    big: bool
    first: int

    @property
    def count_format(self) -> str:
        """Of the number of entries, which a directory begins with."""
        return self.order + ("Q" if self.big else "H")

    @property
    def offset_format(self) -> str:
        """Of an offset: of the next directory, say."""
        return self.order + ("Q" if self.big else "L")

    @property
    def entry_bytes(self) -> int:
        """Length of an entry."""
        return 20 if self.big else 12


@dataclass(frozen=True, slots=True)
class Directory:
    """entries: (tag, all bytes of the entry), in the file's order. next: offset of the next directory, 0 if none."""

    entries: tuple[tuple[int, bytes], ...]
    next: int


def tiff_layout(data: bytes) -> TiffLayout | None:
    """Read the header of a TIFF file or of EXIF metadata; None if it is none, or points into itself."""
    order = HEADERS.get(bytes(data[:4]))
    if order is None:
        return None
    big = data[2 if order == "<" else 3] == ord("+")
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
    except struct.error:
        return None
    return TiffLayout(order, big, first) if first >= 8 else None


def read_directory(data: bytes, at: int, layout: TiffLayout) -> Directory | None:
    """Read the directory at an offset; None where there is none, the whole entries alone where it is cut short."""
    try:
        (count,) = struct.unpack_from(layout.count_format, data, at)
    except (struct.error, OverflowError):
        return None
    at += struct.calcsize(layout.count_format)
    size = layout.entry_bytes
    whole = min(count, (len(data) - at) // size)
    entries = tuple(
        (struct.unpack_from(layout.order + "H", data, each)[0], data[each : each + size])
        for each in range(at, at + whole * size, size)
    )
    try:
        (following,) = struct.unpack_from(layout.offset_format, data, at + count * size)
    except (struct.error, OverflowError):
        following = 0
    return Directory(entries, following)


def directory_offsets(data: bytes, layout: TiffLayout, most: int) -> Iterator[int]:
    """The offset of each directory, of `most` at most; none of them twice."""
    seen: set[int] = set()
    at = layout.first
    while at and at not in seen and len(seen) < most:
        try:
            (count,) = struct.unpack_from(layout.count_format, data, at)
        except (struct.error, OverflowError):
            return
        seen.add(at)
        yield at
        after = at + struct.calcsize(layout.count_format) + count * layout.entry_bytes
        try:
            (at,) = struct.unpack_from(layout.offset_format, data, after)
        except (struct.error, OverflowError):
            return


def entry_integer(entry: bytes, layout: TiffLayout) -> int | None:
    """The one integer of an entry; a digit in text counts as one. None for anything else."""
    kind, count = struct.unpack_from(layout.order + ("HQ" if layout.big else "HL"), entry, 2)
    value = entry[12 if layout.big else 8 :]
    if kind == ASCII and count <= len(value):
        text = value[:count].rstrip(b"\0 ").strip()
        return int(text) if text.isdigit() else None
    if kind not in INTEGERS or count != 1 or struct.calcsize("=" + INTEGERS[kind]) > len(value):
        return None
    return int(struct.unpack_from(layout.order + INTEGERS[kind], value)[0])


def find_integer(data: bytes, tag: int) -> int | None:
    """The integer with this tag in the first directory of EXIF metadata (or of a TIFF file); None if there is none."""
    layout = tiff_layout(data)
    directory = None if layout is None else read_directory(data, layout.first, layout)
    if layout is None or directory is None:
        return None
    return next((entry_integer(entry, layout) for each, entry in directory.entries if each == tag), None)


def orientation_of(value: object) -> int:
    """An EXIF orientation from 1 to 8, however it was stored; 1, upright, for any other value."""
    if isinstance(value, bytes) and len(value) == 1 and value[0] <= 8:
        value = value[0]  # as Pillow gives a value of the type BYTE
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, ArithmeticError):
        return UPRIGHT
    return number if 1 <= number <= 8 else UPRIGHT


def read_orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """The orientation that the metadata states, 1 to 8: EXIF's, else that of XMP, else 1."""
    if exif is not None:
        while exif.startswith(b"Exif\0\0"):
            exif = exif[6:]
        value = find_integer(exif, ORIENTATION)
        if value is not None:
            return orientation_of(value)
    found = None if xmp is None else XMP_ORIENTATION.search(xmp)
    return UPRIGHT if found is None else orientation_of(found[1])
