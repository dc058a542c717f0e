"""Hostile WebP files, chunk by chunk of their RIFF container."""

from __future__ import annotations

import io
import struct

from PIL import Image

from benchmarks.attacks.images.png import broken_tags

ALPHA, ANIMATED, EXIF, XMP, PROFILE = 0x10, 0x02, 0x08, 0x04, 0x20


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A RIFF chunk, filled up to an even length."""
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def container(*chunks: bytes) -> bytes:
    """The RIFF header and its chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extended(flags: int, width: int, height: int) -> bytes:
    """VP8X. flags: this file's constants."""
    return chunk(b"VP8X", struct.pack("<I", flags) + _three(width - 1) + _three(height - 1))


def _three(value: int) -> bytes:
    return value.to_bytes(3, "little")


def solid(side: int, mode: str = "RGBA", *, lossless: bool = True) -> bytes:
    """A square of one colour, half transparent where the mode has alpha."""
    out = io.BytesIO()
    image = Image.new(mode, (side, side), (200, 30, 30, 128)[: len(mode)])
    image.save(out, "WEBP", lossless=lossless, method=0, quality=0)
    return out.getvalue()


def _image_chunk(side: int) -> bytes:
    """The one image chunk of a plain file."""
    return solid(side)[12:]


def animation(frames: int, side: int, frame_side: int = 1) -> bytes:
    """`frames` small frames on a large canvas."""
    control = _three(0) * 2 + _three(frame_side - 1) * 2 + _three(100) + b"\0"
    one = chunk(b"ANMF", control + _image_chunk(frame_side))
    return container(extended(ALPHA | ANIMATED, side, side), chunk(b"ANIM", bytes(6)), one * frames)


def large_metadata(kind: bytes, data: bytes) -> bytes:
    """A small image with one chunk of metadata: b"EXIF", b"XMP " or b"ICCP"."""
    flag = {b"EXIF": EXIF, b"XMP ": XMP, b"ICCP": PROFILE}[kind]
    image, extra = _image_chunk(64), chunk(kind, data)
    chunks = (extra, image) if kind == b"ICCP" else (image, extra)
    return container(extended(flag | ALPHA, 64, 64), *chunks)


def broken_exif(entries: int) -> bytes:
    """Exif of `entries` tags whose values lie outside the file."""
    return large_metadata(b"EXIF", broken_tags(entries))


def tiny_chunks(size: int) -> bytes:
    """`size` bytes of unknown chunks around a small image."""
    flood = chunk(b"none") * (size // 8)
    return container(extended(ALPHA, 64, 64), _image_chunk(64), flood)


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    image = _image_chunk(64)
    return {
        "no image": container(extended(ALPHA, 64, 64)),
        "no chunk": container(),
        "canvas of another size": container(extended(ALPHA, 9_999, 9_999), image),
        "canvas of 2^24 x 2^24": container(extended(ALPHA, 1 << 24, 1 << 24), image),
        "animation without frames": container(extended(ANIMATED, 64, 64), chunk(b"ANIM", bytes(6))),
        "animation without control": container(extended(ANIMATED, 64, 64), image),
        "frame outside the canvas": animation(1, 1, 64),
        "frame cut short": container(extended(ANIMATED, 64, 64), chunk(b"ANIM", bytes(6)), chunk(b"ANMF", bytes(4))),
        "image cut short": container(image[:20]),
        "image of zeros": container(chunk(b"VP8L", bytes(40))),
        "lossy image of zeros": container(chunk(b"VP8 ", bytes(40))),
        "RIFF length of 0": b"RIFF" + bytes(4) + b"WEBP" + image,
        "RIFF length of 2^32 - 1": b"RIFF\xff\xff\xff\xffWEBP" + image,
        "chunk longer than the file": container(b"VP8L" + struct.pack("<I", 1 << 30) + b"x"),
        "Exif of rubbish": large_metadata(b"EXIF", b"\xff" * 60),
        "profile of rubbish": large_metadata(b"ICCP", b"\xff" * 60),
        "signature alone": b"RIFF\0\0\0\0WEBP",
    }
