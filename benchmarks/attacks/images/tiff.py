"""Hostile TIFF files, directory by directory."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

from PIL import Image

from benchmarks.attacks.images.png import broken_tags, zlib_zeros

ASCII, SHORT, LONG = 2, 3, 4
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
STRIP_AT, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_AT, TILE_BYTES = 322, 323, 324, 325
DEFLATE = 8

Field = tuple[int, tuple[int, ...] | bytes]  # type and values
Fields = Mapping[int, Field]  # by tag
_SIZES = {ASCII: 1, SHORT: 2, LONG: 4}  # bytes
_LETTERS = {SHORT: "H", LONG: "I"}  # of struct


def tiff(fields: Fields, data: bytes = b"", next_directory: int = 0) -> bytes:
    """Header, `data` at offset 8, one directory, and the values that do not fit into it. fields: tag -> (type,
    values)."""
    at = 8 + len(data) + len(data) % 2
    values_at = at + 2 + 12 * len(fields) + 4
    entries, values = b"", b""
    for tag, (kind, given) in sorted(fields.items()):
        packed = given if isinstance(given, bytes) else struct.pack(f"<{len(given)}{_LETTERS[kind]}", *given)
        count = len(packed) // _SIZES[kind]
        if len(packed) <= 4:
            entries += struct.pack("<HHI", tag, kind, count) + packed.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", tag, kind, count, values_at + len(values))
            values += packed + bytes(len(packed) % 2)
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", next_directory)
    return b"II*\0" + struct.pack("<I", at) + data + bytes(len(data) % 2) + directory + values


def grey_fields(width: int, height: int, data_bytes: int, compression: int = 1) -> Fields:
    """The fields of a grey image in one strip at offset 8."""
    return {
        WIDTH: (LONG, (width,)),
        HEIGHT: (LONG, (height,)),
        BITS: (SHORT, (8,)),
        COMPRESSION: (SHORT, (compression,)),
        PHOTOMETRIC: (SHORT, (1,)),
        STRIP_AT: (LONG, (8,)),
        SAMPLES: (SHORT, (1,)),
        ROWS_PER_STRIP: (LONG, (height,)),
        STRIP_BYTES: (LONG, (data_bytes,)),
    }


def small_tiff() -> bytes:
    """An ordinary grey image of 64 x 64 pixels."""
    return tiff(grey_fields(64, 64, 4_096), bytes(4_096))


def deflate_bomb(side: int) -> bytes:
    """A square of RGBA of 16 bits a channel, deflated to a thousandth."""
    packed = zlib_zeros(side * side * 8)
    fields: dict[int, Field] = {**grey_fields(side, side, len(packed), DEFLATE)}
    fields |= {BITS: (SHORT, (16, 16, 16, 16)), PHOTOMETRIC: (SHORT, (2,)), SAMPLES: (SHORT, (4,)), 338: (SHORT, (2,))}
    return tiff(fields, packed)


def packed(side: int, mode: str, compression: str) -> bytes:
    """A square of one colour, packed by Pillow. compression: as Pillow names it."""
    out = io.BytesIO()
    Image.new(mode, (side, side)).save(out, "TIFF", compression=compression)
    return out.getvalue()


def directory_chain(directories: int, *, cyclic: bool = False) -> bytes:
    """A small image, and behind it a chain of directories with one tag each, which may lead back to its beginning."""
    first = small_tiff()
    at = len(first) + len(first) % 2
    links = []
    for index in range(directories):
        last = index == directories - 1
        after = (at if cyclic else 0) if last else at + 18 * (index + 1)
        links.append(struct.pack("<HHHIII", 1, WIDTH, LONG, 1, 64, after))
    return tiff(grey_fields(64, 64, 4_096), bytes(4_096), next_directory=at) + bytes(len(first) % 2) + b"".join(links)


def nested_directories(depth: int) -> bytes:
    """Exif directories, each inside the last."""
    first = tiff({**grey_fields(64, 64, 4_096), 34_665: (LONG, (0,))}, bytes(4_096))
    at = len(first) + len(first) % 2
    good = tiff({**grey_fields(64, 64, 4_096), 34_665: (LONG, (at,))}, bytes(4_096))
    nested = b"".join(struct.pack("<HHHIII", 1, 34_665, LONG, 1, at + 18 * (index + 1), 0) for index in range(depth))
    return good + bytes(len(first) % 2) + nested


def broken_fields(entries: int) -> bytes:
    """A directory of tags that point nowhere, and no image."""
    return broken_tags(entries)


def one_row_strips(width: int, height: int) -> bytes:
    """A strip for every row, all at the same place."""
    fields: dict[int, Field] = {**grey_fields(width, height, width)}
    fields |= {ROWS_PER_STRIP: (LONG, (1,)), STRIP_AT: (LONG, (8,) * height), STRIP_BYTES: (LONG, (width,) * height)}
    return tiff(fields, bytes(width))


def huge_tile(side: int) -> bytes:
    """A small image in one tile of `side` x `side` pixels, deflated."""
    data = zlib_zeros(side * side)
    fields: dict[int, Field] = {
        tag: value for tag, value in grey_fields(64, 64, 0, DEFLATE).items() if tag not in (STRIP_AT, STRIP_BYTES, 278)
    }
    fields |= {TILE_WIDTH: (LONG, (side,)), TILE_HEIGHT: (LONG, (side,))}
    return tiff({**fields, TILE_AT: (LONG, (8,)), TILE_BYTES: (LONG, (len(data),))}, data)


def text(size: int) -> bytes:
    """A description of `size` characters."""
    return tiff({**grey_fields(64, 64, 4_096), DESCRIPTION: (ASCII, b"x" * (size - 1) + b"\0")}, bytes(4_096))


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    fields: dict[int, Field] = {**grey_fields(64, 64, 4_096)}
    data = bytes(4_096)

    def with_field(tag: int, kind: int, *values: int) -> bytes:
        return tiff({**fields, tag: (kind, values)}, data)

    def without(tag: int) -> bytes:
        return tiff({each: value for each, value in fields.items() if each != tag}, data)

    return {
        "width 0": with_field(WIDTH, LONG, 0),
        "height 2^32 - 1": with_field(HEIGHT, LONG, 0xFFFF_FFFF),
        "width as text": tiff({**fields, WIDTH: (ASCII, b"wide\0")}, data),
        "no width": without(WIDTH),
        "no strips": without(STRIP_AT),
        "no bits": without(BITS),
        "two widths": with_field(WIDTH, LONG, 64, 64),
        "7 bits": with_field(BITS, SHORT, 7),
        "64 bits": with_field(BITS, SHORT, 64),
        "no bits at all": with_field(BITS, SHORT, 0),
        "200 samples": with_field(SAMPLES, SHORT, 200),
        "compression 9,999": with_field(COMPRESSION, SHORT, 9_999),
        "LZW of rubbish": tiff({**fields, COMPRESSION: (SHORT, (5,))}, b"\xff" * 4_096),
        "Deflate of rubbish": tiff({**fields, COMPRESSION: (SHORT, (8,))}, b"\xff" * 4_096),
        "JPEG of rubbish": tiff({**fields, COMPRESSION: (SHORT, (7,))}, b"\xff" * 4_096),
        "PackBits of rubbish": tiff({**fields, COMPRESSION: (SHORT, (32_773,))}, b"\x81" * 4_096),
        "photometric 99": with_field(PHOTOMETRIC, SHORT, 99),
        "palette without colours": with_field(PHOTOMETRIC, SHORT, 3),
        "strip behind the file": with_field(STRIP_AT, LONG, 0x7FFF_FFFF),
        "strip longer than the file": with_field(STRIP_BYTES, LONG, 0x7FFF_FFFF),
        "strips of no rows": with_field(ROWS_PER_STRIP, LONG, 0),
        "orientation 99": with_field(274, SHORT, 99),
        "directory behind the file": b"II*\0\xff\xff\xff\x7f",
        "directory in the header": b"II*\0\0\0\0\0" + data,
        "BigTIFF header alone": b"II+\0\x08\0\0\0" + bytes(8),
        "header alone": b"II*\0",
        "big-endian header alone": b"MM\0*",
    }
