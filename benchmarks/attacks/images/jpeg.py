"""Hostile JPEG files, segment by segment."""

from __future__ import annotations

import io
import struct

from PIL import Image

START, END = b"\xff\xd8", b"\xff\xd9"
DQT, DHT, DRI, SOS, COMMENT = 0xDB, 0xC4, 0xDD, 0xDA, 0xFE
BASELINE, PROGRESSIVE = 0xC0, 0xC2
RUN_OF_BLOCKS = 0xE0  # AC symbol: a run of at least 2^14 blocks without coefficients, its length in 14 more bits


def segment(marker: int, data: bytes = b"") -> bytes:
    """A marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def grey_frame(kind: int, side: int, bits: int = 8) -> bytes:
    """The frame header of a square image of one component."""
    return segment(kind, struct.pack(">BHHBBBB", bits, side, side, 1, 1, 0x11, 0))


def one_symbol_table(number: int, symbol: int) -> bytes:
    """A Huffman table with one code word, the bit 0. number: 0x00 for DC, 0x10 for AC."""
    return segment(DHT, bytes([number, 1, *[0] * 15, symbol]))


def quantisation() -> bytes:
    """A table of ones."""
    return segment(DQT, b"\0" + b"\1" * 64)


def scan_bytes(bits: str) -> bytes:
    """Bits as entropy-coded bytes: filled up with ones, and 0 put behind 255."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def small_jpeg() -> bytes:
    """An ordinary image of 64 x 64 pixels."""
    return solid_jpeg(64)


def solid_jpeg(side: int, mode: str = "RGB", progressive: bool = False) -> bytes:
    """A square of one colour."""
    out = io.BytesIO()
    Image.new(mode, (side, side), 120 if mode == "L" else (90, 120, 60, 20)[: len(mode)]).save(
        out, "JPEG", quality=30, progressive=progressive
    )
    return out.getvalue()


def many_scans(scans: int, side: int) -> bytes:
    """A progressive image whose every scan is some ten bytes and makes the decoder walk over all blocks."""
    blocks = ((side + 7) // 8) ** 2
    head = START + quantisation() + grey_frame(PROGRESSIVE, side)
    head += one_symbol_table(0x00, 0) + one_symbol_table(0x10, RUN_OF_BLOCKS)
    first = segment(SOS, bytes([1, 1, 0, 0, 0, 0])) + scan_bytes("0" * blocks)
    longest = (1 << 15) - 1
    whole, rest = divmod(blocks, longest)
    runs = ("0" + "1" * 14) * whole + ("0" + "0" * 14 if rest else "")  # the last run may exceed what is left
    later = segment(SOS, bytes([1, 1, 0, 1, 63, 0])) + scan_bytes(runs)
    return head + first + later * scans + END


def restart_markers(side: int) -> bytes:
    """A restart marker behind every block of a baseline image."""
    blocks = ((side + 7) // 8) ** 2
    head = START + quantisation() + grey_frame(BASELINE, side)
    head += one_symbol_table(0x00, 0) + one_symbol_table(0x10, 0) + segment(DRI, struct.pack(">H", 1))
    cycle = b"".join(b"\x3f\xff" + bytes([0xD0 + index]) for index in range(8))
    data = (cycle * (blocks // 8 + 1))[: 3 * blocks - 2]
    return head + segment(SOS, bytes([1, 1, 0, 0, 63, 0])) + data + END


def stray_restarts(size: int) -> bytes:
    """`size` bytes of restart markers inside the entropy-coded data of a small image."""
    data = small_jpeg()
    return data[:-40] + b"\xff\xd0" * (size // 2) + data[-40:]


def _before_the_frame(segments: bytes) -> bytes:
    data = small_jpeg()
    return data[:2] + segments + data[2:]


def _flood(one: bytes, size: int) -> bytes:
    return _before_the_frame(one * (size // len(one)))


def exif_segments(size: int) -> bytes:
    """`size` bytes of Exif segments with ten bytes each: a reader that joins them one by one takes the square of it."""
    return _flood(segment(0xE1, b"Exif\0\0" + bytes(10)), size)


def profile_segments(size: int) -> bytes:
    """`size` bytes of colour-profile segments with one byte each."""
    return _flood(segment(0xE2, b"ICC_PROFILE\0\1\1x"), size)


def photoshop_segments(size: int) -> bytes:
    """`size` bytes of Photoshop segments with empty resources."""
    return _flood(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0"), size)


def comments(size: int) -> bytes:
    """`size` bytes of comments of one byte."""
    return _flood(segment(COMMENT, b"x"), size)


def quantisation_tables(size: int) -> bytes:
    """`size` bytes of quantisation tables."""
    return _flood(quantisation(), size)


def huffman_tables(size: int) -> bytes:
    """`size` bytes of Huffman tables, each of which the decoder checks."""
    return _flood(one_symbol_table(0x00, 0), size)


def fill_bytes(size: int) -> bytes:
    """`size` bytes of 255 ahead of a marker, as the format allows."""
    return _flood(b"\xff", size)


def multi_picture(images: int) -> bytes:
    """An MPO whose index lists `images` images, all at the same place."""
    entries = struct.pack("<IIIHH", 0x0003_0000, 100, 0, 0, 0) * images
    tags = (
        struct.pack("<HHI4s", 0xB000, 7, 4, b"0100"),
        struct.pack("<HHII", 0xB001, 4, 1, images),
        struct.pack("<HHII", 0xB002, 7, len(entries), 8 + 2 + 36 + 4),
    )
    index = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4) + entries
    return _before_the_frame(segment(0xE2, b"MPF\0" + index))


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    data = small_jpeg()
    frame = data.index(b"\xff\xc0")
    scan = data.index(b"\xff\xda")

    def changed(at: int, values: bytes) -> bytes:
        return data[:at] + values + data[at + len(values) :]

    return {
        "12 bits": changed(frame + 4, b"\x0c"),
        "0 bits": changed(frame + 4, b"\0"),
        "height 0": changed(frame + 5, bytes(2)),
        "width 0": changed(frame + 7, bytes(2)),
        "no components": changed(frame + 9, b"\0"),
        "255 components": changed(frame + 9, b"\xff"),
        "sampling factors of 0": changed(frame + 11, b"\0"),
        "sampling factors of 15": changed(frame + 11, b"\xff"),
        "lossless frame": changed(frame, b"\xff\xc3"),
        "arithmetic frame": changed(frame, b"\xff\xc9"),
        "hierarchical frame": changed(frame, b"\xff\xc5"),
        "frame of length 2": changed(frame + 2, b"\0\2"),
        "no tables": data[:2] + data[frame:],
        "two frames": data[:scan] + data[frame:scan] + data[scan:],
        "no frame": data[:frame] + data[scan:],
        "no scan": data[:scan] + END,
        "scan of an unknown component": changed(scan + 5, b"\x09"),
        "scan data missing": data[: scan + 14],
        "no end": data[:-2],
        "two starts": START + data,
        "Exif of rubbish": _before_the_frame(segment(0xE1, b"Exif\0\0" + b"\xff" * 60)),
        "Exif of broken tags": _before_the_frame(
            segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5_000) + b"\xff" * 60_000)
        ),
        "Exif that points at itself": _before_the_frame(
            segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8))
        ),
        "MPO of rubbish": _before_the_frame(segment(0xE2, b"MPF\0" + b"\xff" * 60)),
        "Photoshop of rubbish": _before_the_frame(segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 60)),
        "profile of rubbish": _before_the_frame(segment(0xE2, b"ICC_PROFILE\0\0\0")),
        "Adobe of one byte": _before_the_frame(segment(0xEE, b"Adobe")),
        "JFIF of one byte": _before_the_frame(segment(0xE0, b"JFIF")),
        "segment longer than the file": data[:2] + b"\xff\xe1\xff\xff",
        "segment of length 0": data[:2] + b"\xff\xe1\0\0" + data[2:],
        "start alone": START,
    }
