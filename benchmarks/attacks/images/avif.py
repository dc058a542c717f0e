"""Hostile AVIF files."""

from __future__ import annotations

import io
import struct

from PIL import Image


def solid(side: int, mode: str = "RGB", frames: int = 1) -> bytes:
    """A square of one colour, as often as `frames` says."""
    out = io.BytesIO()
    image = Image.new(mode, (side, side), (200, 30, 30, 128)[: len(mode)])
    more = [Image.new(mode, (side, side), (30, index % 256, 30, 128)[: len(mode)]) for index in range(frames - 1)]
    image.save(out, "AVIF", quality=1, speed=10, save_all=frames > 1, append_images=more)
    return out.getvalue()


def box(kind: bytes, data: bytes = b"") -> bytes:
    """A box of ISO/IEC 14496-12."""
    return struct.pack(">I", len(data) + 8) + kind + data


def tiny_boxes(size: int) -> bytes:
    """`size` bytes of empty boxes behind a small image."""
    return solid(64) + box(b"free") * (size // 8)


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of the format each; the answer to each is 4xx, or 200 where it can be read."""
    data = solid(64)
    kind = data[: int.from_bytes(data[:4], "big")]
    size_at = data.index(b"ispe") + 8
    return {
        "file type alone": kind,
        "no meta box": kind + box(b"mdat", b"x" * 100),
        "box longer than the file": kind + b"\x7f\xff\xff\xffmeta",
        "box of length 4": kind + struct.pack(">I", 4) + b"meta" + data[len(kind) :],
        "size of 2^32 - 1": data[:size_at] + b"\xff" * 8 + data[size_at + 8 :],
        "size of 0": data[:size_at] + bytes(8) + data[size_at + 8 :],
        "data cut short": data[:-20],
        "data of zeros": data[:-40] + bytes(40),
    }
