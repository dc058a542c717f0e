"""Hostile BMP files: run lengths, and fields that break a rule."""

from __future__ import annotations

import struct

RLE8, RLE4 = 1, 2
END_OF_LINE, END_OF_IMAGE = b"\0\0", b"\0\1"
NO_MOVE = b"\0\2\0\0"


def bmp(width: int, height: int, body: bytes, bits: int = 8, compression: int = 0, colours: int | None = None) -> bytes:
    """A file of the 40-byte header and a grey palette."""
    count = (1 << bits if bits <= 8 else 0) if colours is None else colours
    palette = b"".join(bytes([index & 255] * 3 + [0]) for index in range(min(count, 256)))
    at = 54 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 2_835, 2_835, count, 0)
    return b"BM" + struct.pack("<IHHI", at + len(body), 0, 0, at) + head + palette + body


def short_lines(side: int) -> bytes:
    """Every line is one pixel and an end-of-line code: the reader fills in the rest."""
    return bmp(side, side, (b"\1\x40" + END_OF_LINE) * side + END_OF_IMAGE, 8, RLE8)


def nibbles(side: int) -> bytes:
    """Runs of 4-bit pixels in pairs."""
    line = b"\xff\x12" * (side // 255) + bytes([side % 255, 0x12]) + END_OF_LINE
    return bmp(side, side, line * side + END_OF_IMAGE, 4, RLE4)


def literal_pixels(side: int) -> bytes:
    """Absolute runs of four pixels, the shortest that carry no padding."""
    line = b"\0\4abcd" * (side // 4) + END_OF_LINE
    return bmp(side // 4 * 4, side, line * side + END_OF_IMAGE, 8, RLE8)


def one_pixel_runs(side: int) -> bytes:
    """A code for every pixel."""
    return bmp(side, side, (b"\1\x40" * side + END_OF_LINE) * side + END_OF_IMAGE, 8, RLE8)


def one_pixel(side: int) -> bytes:
    """One pixel, a move to the far corner and another one: the reader fills in what lies between."""
    hops = b"\0\2\xff\xff" * ((side - 2) // 255)
    return bmp(side, side, b"\1\x40" + hops + b"\1\x40" + END_OF_IMAGE, 8, RLE8)


def end_of_lines(size: int, side: int = 64) -> bytes:
    """`size` bytes of end-of-line codes, then an image."""
    return bmp(side, side, END_OF_LINE * (size // 2) + _square(side), 8, RLE8)


def moves(size: int, side: int = 64) -> bytes:
    """`size` bytes of moves by nothing, then an image."""
    return bmp(side, side, NO_MOVE * (size // 4) + _square(side), 8, RLE8)


def _square(side: int) -> bytes:
    return (bytes([side, 0x40]) + END_OF_LINE) * side + END_OF_IMAGE


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    good = bmp(64, 64, bytes(64 * 64))

    def changed(at: int, values: bytes) -> bytes:
        return good[:at] + values + good[at + len(values) :]

    return {
        "width 0": bmp(0, 64, b""),
        "width -64": bmp(-64, 64, bytes(4_096)),
        "height -2^31": bmp(64, -(1 << 31), bytes(4_096)),
        "top down": bmp(64, -64, bytes(4_096)),
        "7 bits": bmp(64, 64, bytes(4_096), 7, colours=128),
        "0 bits": bmp(64, 64, bytes(4_096), 0, colours=0),
        "compression 9": bmp(64, 64, bytes(4_096), 8, 9),
        "compression JPEG": bmp(64, 64, bytes(4_096), 0, 4, 0),
        "palette of 2^31 colours": bmp(64, 64, bytes(4_096), 8, 0, 1 << 31),
        "no palette": bmp(64, 64, bytes(4_096), 8, 0, 0),
        "data before the file": changed(10, bytes(4)),
        "data behind the file": changed(10, b"\xff\xff\xff\x7f"),
        "header of 7 bytes": changed(14, struct.pack("<I", 7)),
        "header of 2^32 - 1 bytes": changed(14, b"\xff\xff\xff\xff"),
        "data cut short": good[:-2_000],
        "run beyond the line": bmp(64, 64, b"\xff\1" * 64 + END_OF_IMAGE, 8, RLE8),
        "runs of no pixels": bmp(64, 64, b"\0\3" * 64, 8, RLE8),
        "move beyond the image": bmp(64, 64, b"\0\2\xff\xff" * 64 + END_OF_IMAGE, 8, RLE8),
        "move cut short": bmp(64, 64, b"\0\2", 8, RLE8),
        "run lengths cut short": bmp(64, 64, b"\x40\1\0", 8, RLE8),
        "RLE8 of 4 bits": bmp(64, 64, _square(64), 4, RLE8),
        "magic alone": b"BM",
    }
