"""Hostile PNG files, chunk by chunk."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
# Adam7: first column and row of each pass, and the steps between its columns and rows.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

Chunks = Sequence[bytes]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, colour: int, bits: int = 8, interlaced: bool = False) -> bytes:
    """IHDR. colour: one of this file's constants. bits: of a channel."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


def zlib_zeros(count: int) -> bytes:
    """A complete zlib stream of `count` zero bytes, a thousandth as long, made without compressing them all."""
    whole, rest = divmod(count, 1 << 20)
    end = zlib.compressobj(9, wbits=-15)
    adler = (count % 65_521) << 16 | 1
    return b"\x78\xda" + _megabyte() * whole + end.compress(bytes(rest)) + end.flush() + struct.pack(">I", adler)


@functools.cache
def _megabyte() -> bytes:
    """2^20 zeros as a part of a deflate stream that may be repeated, because it ends in a full flush."""
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


def black_rows(width: int, height: int, colour: int, bits: int, interlaced: bool) -> int:
    """Bytes of the unpacked scan lines, each with its filter byte."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for column, row, across, down in passes:
        columns, rows = -((column - width) // across), -((row - height) // down)
        if columns > 0:
            total += rows * (1 + (columns * bits * _CHANNELS[colour] + 7) // 8)
    return total


def black_png(
    width: int,
    height: int,
    colour: int = RGB,
    bits: int = 8,
    *,
    interlaced: bool = False,
    before: Chunks = (),
    middle: Chunks = (),
    after: Chunks = (),
) -> bytes:
    """A black image. before, middle, after: chunks ahead of the image data, between its two halves, and behind it."""
    packed = zlib_zeros(black_rows(width, height, colour, bits, interlaced))
    halves = (chunk(b"IDAT", packed[:2]), *middle, chunk(b"IDAT", packed[2:]))
    palette = (chunk(b"PLTE", bytes(3 << bits)),) if colour == PALETTE else ()
    parts = (header(width, height, colour, bits, interlaced), *palette, *before, *halves, *after, chunk(b"IEND"))
    return SIGNATURE + b"".join(parts)


def solid_png(width: int, height: int) -> bytes:
    """An ordinary small image: grey with vertical bars."""
    line = b"\0" + bytes(40 + x * 3 % 200 for x in range(width) for _ in range(3))
    data = chunk(b"IDAT", zlib.compress(line * height))
    return SIGNATURE + header(width, height, RGB) + data + chunk(b"IEND")


def empty_data_chunks(size: int) -> bytes:
    """`size` bytes of IDAT chunks that hold nothing."""
    return black_png(64, 64, middle=[chunk(b"IDAT")] * (size // 12))


def one_byte_data_chunks(width: int, height: int) -> bytes:
    """The image data in chunks of one byte."""
    packed = zlib_zeros(black_rows(width, height, RGB, 8, False))
    pieces = b"".join(chunk(b"IDAT", packed[at : at + 1]) for at in range(len(packed)))
    return SIGNATURE + header(width, height, RGB) + pieces + chunk(b"IEND")


def tiny_texts(size: int, *, late: bool = False) -> bytes:
    """`size` bytes of tEXt chunks, ahead of the image or behind it."""
    one = chunk(b"tEXt", b"k\0v")
    texts = [one] * (size // len(one))
    return black_png(64, 64, after=texts) if late else black_png(64, 64, before=texts)


def profile_bomb(unpacked: int) -> bytes:
    """A colour profile that unpacks to `unpacked` zeros; the image itself is good."""
    return black_png(64, 64, before=[chunk(b"iCCP", b"p\0\0" + zlib_zeros(unpacked))])


def text_bomb(unpacked: int, *, international: bool = False) -> bytes:
    """A compressed text that unpacks to `unpacked` zeros; the image itself is good."""
    packed = zlib_zeros(unpacked)
    text = chunk(b"iTXt", b"k\0\1\0\0\0" + packed) if international else chunk(b"zTXt", b"k\0\0" + packed)
    return black_png(64, 64, before=[text])


def many_texts_bomb(count: int, unpacked: int) -> bytes:
    """`count` compressed texts of `unpacked` zeros each: every one is small, all together are not."""
    packed = zlib_zeros(unpacked)
    return black_png(64, 64, before=[chunk(b"zTXt", b"k%d\0\0" % index + packed) for index in range(count)])


def broken_exif(entries: int) -> bytes:
    """Exif of `entries` tags whose values lie outside the file."""
    return black_png(64, 64, before=[chunk(b"eXIf", broken_tags(entries))])


def broken_tags(entries: int) -> bytes:
    """A TIFF header and one directory of `entries` (at most 65,535) ASCII tags that point nowhere."""
    tags = b"".join(struct.pack("<HHII", index, 2, 1_000, 0x7FFF_FFF0) for index in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + tags + bytes(4)


def animation(width: int, height: int, frames: int) -> bytes:
    """An APNG of one still image and `frames` frames of one pixel."""
    controls = [chunk(b"acTL", struct.pack(">II", frames + 1, 0)), _frame_control(0, width, height)]
    later = []
    for index in range(frames):
        data = struct.pack(">I", 2 * index + 2) + zlib_zeros(4)
        later += [_frame_control(2 * index + 1, 1, 1), chunk(b"fdAT", data)]
    return black_png(width, height, before=controls, after=later)


def _frame_control(number: int, width: int, height: int) -> bytes:
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 100, 0, 0))


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    line = bytes(65)
    data = chunk(b"IDAT", zlib.compress(line * 64))
    end = chunk(b"IEND")

    def of(*parts: bytes) -> bytes:
        return SIGNATURE + b"".join(parts)

    palette = header(64, 64, PALETTE)
    grey = header(64, 64, GREY)
    return {
        "palette without PLTE": of(palette, data, end),
        "PLTE behind the data": of(palette, data, chunk(b"PLTE", bytes(768)), end),
        "PLTE of two bytes": of(palette, chunk(b"PLTE", b"\0\0"), data, end),
        "PLTE of no bytes": of(palette, chunk(b"PLTE"), data, end),
        "palette index beyond PLTE": of(
            palette, chunk(b"PLTE", bytes(3)), chunk(b"IDAT", zlib.compress((b"\0" + b"\xff" * 64) * 64)), end
        ),
        "palette with tRNS, without PLTE": of(palette, chunk(b"tRNS", bytes(4)), data, end),
        "tRNS of one byte for grey": of(grey, chunk(b"tRNS", b"\0"), data, end),
        "tRNS of one byte for RGB": of(header(21, 64, RGB), chunk(b"tRNS", b"\0"), data, end),
        "no data": of(grey, end),
        "no header": of(data, end),
        "two headers": of(grey, header(32, 32, RGB), data, end),
        "empty header": of(chunk(b"IHDR"), data, end),
        "width 0": of(header(0, 64, GREY), data, end),
        "height 0": of(header(64, 0, GREY), data, end),
        "width 2^31": of(header(1 << 31, 1, GREY), data, end),
        "3 bits": of(header(64, 64, GREY, 3), data, end),
        "RGB of 4 bits": of(header(64, 64, RGB, 4), data, end),
        "colour type 5": of(header(64, 64, 5), data, end),
        "filter type 9": of(grey, chunk(b"IDAT", zlib.compress((b"\x09" + bytes(64)) * 64)), end),
        "wrong checksum of the data": of(grey, data[:-4] + bytes(4), end),
        "wrong checksum of the header": of(grey[:-4] + bytes(4), data, end),
        "data not of zlib": of(grey, chunk(b"IDAT", b"not of zlib"), end),
        "half of the data": of(grey, chunk(b"IDAT", zlib.compress(bytes(5_000))[:20]), end),
        "rows missing": of(grey, chunk(b"IDAT", zlib.compress(line * 3)), end),
        "iCCP not of zlib": of(grey, chunk(b"iCCP", b"p\0\0xx"), data, end),
        "iCCP without name": of(grey, chunk(b"iCCP"), data, end),
        "zTXt not of zlib": of(grey, chunk(b"zTXt", b"k\0\0xx"), data, end),
        "iTXt cut short": of(grey, chunk(b"iTXt", b"k"), data, end),
        "eXIf of rubbish": of(grey, chunk(b"eXIf", b"\xff" * 40), data, end),
        "gAMA of one byte": of(grey, chunk(b"gAMA", b"\0"), data, end),
        "pHYs of one byte": of(grey, chunk(b"pHYs", b"\0"), data, end),
        "cHRM of one byte": of(grey, chunk(b"cHRM", b"\0"), data, end),
        "sRGB of no byte": of(grey, chunk(b"sRGB"), data, end),
        "acTL of no frames": of(grey, chunk(b"acTL", bytes(8)), data, end),
        "fcTL outside the image": of(
            grey, chunk(b"acTL", struct.pack(">II", 1, 0)), _frame_control(0, 9_999, 9_999), data, end
        ),
        "fdAT out of turn": of(grey, chunk(b"acTL", struct.pack(">II", 2, 0)), data, chunk(b"fdAT", bytes(3)), end),
        "chunk longer than the file": of(grey, struct.pack(">I", 1 << 30) + b"IDAT" + b"x"),
        "chunk of length 2^32 - 1": of(grey, b"\xff\xff\xff\xffIDAT"),
        "chunk name of zeros": of(grey, chunk(bytes(4), b"x"), data, end),
        "signature alone": SIGNATURE,
    }
