"""Structure-aware damage to image files, reproducible from a seed: the file stays one that a decoder walks into.

A file is taken apart into the parts that its format knows (chunks, segments, blocks, boxes, directory entries); parts
are deleted, doubled, moved, cut, emptied, overwritten or given a false length, and the file is put together again with
right checksums and lengths, so that damage is met by what reads the part and not by what checks it.
"""

import random
import struct
import zlib
from collections.abc import Callable, Iterator

Parts = list[bytes]

EXTREMES = (0, 1, 2, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
HEADER_BYTES = 64


def damaged_structures(seed: int, files: dict[str, bytes], count: int) -> Iterator[tuple[str, bytes]]:
    """(how it was made, bytes) of `count` damaged files, made in turn from each of `files`; names begin with the
    format, in capitals."""
    rng, good = random.Random(seed), list(files.items())
    for number in range(count):
        name, data = good[number % len(good)]
        split, join = FORMATS[name.split()[0]]
        parts, hows = split(data), []
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            how, change = rng.choice(CHANGES)
            hows.append(how)
            if parts:
                change(rng, parts)
        yield f"{name}: {', '.join(hows)}", join(data, parts)


def _delete(rng: random.Random, parts: Parts) -> None:
    del parts[rng.randrange(len(parts))]


def _double(rng: random.Random, parts: Parts) -> None:
    at = rng.randrange(len(parts))
    parts[at:at] = [parts[at]] * rng.choice((1, 1, 2, 50))


def _move(rng: random.Random, parts: Parts) -> None:
    part = parts.pop(rng.randrange(len(parts)))
    parts.insert(rng.randrange(len(parts) + 1), part)


def _shuffle(rng: random.Random, parts: Parts) -> None:
    rng.shuffle(parts)


def _end(rng: random.Random, parts: Parts) -> None:
    del parts[rng.randrange(len(parts)) :]


def _cut(rng: random.Random, parts: Parts) -> None:
    at = rng.randrange(len(parts))
    parts[at] = parts[at][: rng.randrange(len(parts[at]) + 1)]


def _lengthen(rng: random.Random, parts: Parts) -> None:
    at = rng.randrange(len(parts))
    parts[at] += rng.randbytes(rng.choice((1, 3, 100, 3_000)))


def _flip(rng: random.Random, parts: Parts) -> None:
    at = rng.randrange(len(parts))
    changed = bytearray(parts[at])
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    parts[at] = bytes(changed)


def _lie(rng: random.Random, parts: Parts) -> None:
    """Put an extreme number, of any width and byte order, at the beginning of a part."""
    at = rng.randrange(len(parts))
    number, width = rng.choice(EXTREMES), rng.choice((1, 2, 4))
    value = (number % 256**width).to_bytes(width, rng.choice(("big", "little")))
    start = rng.randrange(min(len(parts[at]), HEADER_BYTES) + 1)
    parts[at] = parts[at][:start] + value + parts[at][start + width :]


CHANGES: tuple[tuple[str, Callable[[random.Random, Parts], None]], ...] = (
    ("deleted", _delete),
    ("doubled", _double),
    ("moved", _move),
    ("shuffled", _shuffle),
    ("ended", _end),
    ("cut", _cut),
    ("lengthened", _lengthen),
    ("flipped", _flip),
    ("flipped", _flip),
    ("lied", _lie),
    ("lied", _lie),
    ("lied", _lie),
)


def _png_parts(data: bytes) -> Parts:
    """Name and body of each chunk."""
    parts, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append(data[at + 4 : at + 8 + length])
        at += 12 + length
    return parts


def _png_file(data: bytes, parts: Parts) -> bytes:
    chunks = (struct.pack(">I", max(0, len(part) - 4)) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return data[:8] + b"".join(chunks)


def _jpeg_parts(data: bytes) -> Parts:
    """Marker and body of each segment; what follows a scan's header belongs to it."""
    parts, at = [], 2
    while at + 4 <= len(data):
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            while (end := data.find(b"\xff", end)) >= 0 and data[end + 1 : end + 2] <= b"\x00":
                end += 2
            end = len(data) if end < 0 else end
        parts.append(data[at + 1 : at + 2] + data[at + 4 : end])
        at = end
    return parts


def _jpeg_file(data: bytes, parts: Parts) -> bytes:
    pieces = []
    for part in parts:
        is_scan = part[:1] == b"\xda" and len(part) > 1  # whose header is followed by the pixels
        length = 6 + 2 * part[1] if is_scan else min(len(part) + 1, 65_535)
        pieces.append(b"\xff" + part[:1] + struct.pack(">H", max(length, 2)) + part[1:])
    return data[:2] + b"".join(pieces) + b"\xff\xd9"


def _riff_parts(data: bytes) -> Parts:
    parts, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        parts.append(data[at : at + 4] + data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return parts


def _riff_file(data: bytes, parts: Parts) -> bytes:
    chunks = (
        part[:4].ljust(4) + struct.pack("<I", max(0, len(part) - 4)) + part[4:] + bytes(len(part) % 2) for part in parts
    )
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif_parts(data: bytes) -> Parts:
    """Screen, palette and blocks, each image or extension one part."""
    colours = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    parts, at = [data[:13], data[13 : 13 + colours]], 13 + colours
    while at < len(data) and data[at] in b"!,":
        start = at
        if data[at] == 0x2C:
            at += 11 + (3 << (data[at + 9] & 7) + 1 if data[at + 9] & 0x80 else 0)
        else:
            at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        parts.append(data[start:at])
    return parts


def _gif_file(data: bytes, parts: Parts) -> bytes:
    return b"".join(parts) + b";"


def _bmp_parts(data: bytes) -> Parts:
    """File header, image header, and the rest in two."""
    end = 14 + int.from_bytes(data[14:18], "little")
    pixels = max(end, int.from_bytes(data[10:14], "little"))
    return [data[:14], data[14:end], data[end:pixels], data[pixels:]]


def _joined(data: bytes, parts: Parts) -> bytes:
    return b"".join(parts)


def _tiff_parts(data: bytes) -> Parts:
    """The entries of the first directory, of a little-endian file."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    return [data[at + 2 + 12 * each : at + 14 + 12 * each] for each in range(count)]


def _tiff_file(data: bytes, parts: Parts) -> bytes:
    """With the directory behind the pixels and values, which stay where they are."""
    entries = [part[:12].ljust(12, b"\0") for part in parts]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def _box_parts(data: bytes) -> Parts:
    """Kind and body of each outer box of an ISO media file."""
    parts, at = [], 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if length < 8:
            break
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + length]
        parts.append(kind + body)
        at += length
    return parts


def _box_file(data: bytes, parts: Parts) -> bytes:
    return b"".join(struct.pack(">I", len(part) + 4) + part for part in parts)


FORMATS: dict[str, tuple[Callable[[bytes], Parts], Callable[[bytes, Parts], bytes]]] = {
    "PNG": (_png_parts, _png_file),
    "JPEG": (_jpeg_parts, _jpeg_file),
    "WEBP": (_riff_parts, _riff_file),
    "GIF": (_gif_parts, _gif_file),
    "BMP": (_bmp_parts, _joined),
    "TIFF": (_tiff_parts, _tiff_file),
    "AVIF": (_box_parts, _box_file),
}
