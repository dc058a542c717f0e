"""Hostile GIF files, block by block."""

from __future__ import annotations

import struct

TRAILER = b";"
ONE_PIXEL = b"\2\2\x44\1\0"  # code size, one block, its end


def screen(width: int, height: int) -> bytes:
    """Signature, screen and a palette of four greys."""
    head = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0xF1, 0, 0)
    return head + bytes(value for grey in (0, 80, 160, 240) for value in (grey,) * 3)


def frame(width: int, height: int, data: bytes, interlaced: bool = False) -> bytes:
    """An image block. data: code size and sub-blocks."""
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0x40 if interlaced else 0) + data


def zero_pixels(count: int) -> bytes:
    """Code size and LZW data of `count` pixels of colour 0, by codes that grow as fast as the format allows."""
    codes, sizes = [4], [3]  # clear
    size, next_code, drawn, run = 3, 6, 0, 1
    first = True
    while drawn < count:
        codes.append(0 if first else next_code)  # the code that is being defined: one pixel more than the last
        sizes.append(size)
        drawn += run
        if not first:
            next_code += 1
        first, run = False, run + 1
        if next_code == 1 << size and size < 12:
            size += 1
        if next_code >= 4_094:
            codes.append(4)
            sizes.append(size)
            size, next_code, run, first = 3, 6, 1, True
    codes.append(5)  # end
    sizes.append(size)
    bits, at = 0, 0
    for code, width in zip(codes, sizes, strict=True):
        bits |= code << at
        at += width
    data = bits.to_bytes((at + 7) // 8, "little")
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return b"\2" + blocks + b"\0"


def solid(width: int, height: int, interlaced: bool = False) -> bytes:
    """One frame of one colour."""
    return screen(width, height) + frame(width, height, zero_pixels(width * height), interlaced) + TRAILER


def many_frames(frames: int, width: int, height: int) -> bytes:
    """Frames of one pixel on a large screen."""
    return screen(width, height) + frame(1, 1, ONE_PIXEL) * frames + TRAILER


def tiny_blocks(size: int) -> bytes:
    """`size` bytes of comments in blocks of one byte, then an image."""
    return screen(1, 1) + b"!\xfe" + b"\1x" * (size // 2) + b"\0" + frame(1, 1, ONE_PIXEL) + TRAILER


def many_comments(size: int) -> bytes:
    """`size` bytes of comments, each of one byte, then an image."""
    return screen(1, 1) + b"!\xfe\1x\0" * (size // 5) + frame(1, 1, ONE_PIXEL) + TRAILER


def clear_codes(size: int) -> bytes:
    """`size` bytes of clear codes, which draw nothing."""
    data = int("100" * 8, 2).to_bytes(3, "little") * 85  # eight clear codes of 3 bits in three bytes
    return screen(64, 64) + frame(64, 64, b"\2" + (b"\xff" + data) * (size // 256) + b"\0") + TRAILER


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    pixels = zero_pixels(64 * 64)
    head = screen(64, 64)
    return {
        "no frame": head + TRAILER,
        "width 0": screen(0, 0) + frame(64, 64, pixels) + TRAILER,
        "frame of width 0": head + frame(0, 64, pixels) + TRAILER,
        "frame larger than the screen": screen(1, 1) + frame(64, 64, pixels) + TRAILER,
        "frame of 65,535 x 65,535 on a small screen": head + frame(65_535, 65_535, pixels) + TRAILER,
        "code size 0": head + frame(64, 64, b"\0" + pixels[1:]) + TRAILER,
        "code size 13": head + frame(64, 64, b"\x0d" + pixels[1:]) + TRAILER,
        "code that is not defined": head + frame(64, 64, b"\2\2\xff\xff\0") + TRAILER,
        "pixels missing": head + frame(64, 64, ONE_PIXEL) + TRAILER,
        "data cut short": (head + frame(64, 64, pixels))[:-8],
        "no palette": b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + frame(64, 64, pixels) + TRAILER,
        "palette cut short": head[:15],
        "unknown block": head + b"?" * 50 + TRAILER,
        "graphic control of one byte": head + b"!\xf9\1\0\0" + frame(64, 64, pixels) + TRAILER,
        "application without name": head + b"!\xff\0" + frame(64, 64, pixels) + TRAILER,
        "signature alone": b"GIF89a",
    }
