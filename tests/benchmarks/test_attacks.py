"""The hostile images of `make attacks`: small ones of each kind are what they are meant to be, alike on every run."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.attacks.findings import unexpected
from benchmarks.attacks.images import bmp, gif, jpeg, malformed, png, tiff, webp

LEGAL: dict[str, tuple[Callable[[], bytes], str, tuple[int, int]]] = {
    "PNG, 16 bits, interlaced": (lambda: png.black_png(31, 23, png.RGBA, 16, interlaced=True), "PNG", (31, 23)),
    "PNG, data chunks of one byte": (lambda: png.one_byte_data_chunks(40, 30), "PNG", (40, 30)),
    "PNG, frames": (lambda: png.animation(16, 12, 5), "PNG", (16, 12)),
    "JPEG, scans": (lambda: jpeg.many_scans(5, 100), "JPEG", (100, 100)),
    "JPEG, restart markers": (lambda: jpeg.restart_markers(100), "JPEG", (100, 100)),
    "JPEG, fill bytes": (lambda: jpeg.fill_bytes(1_000), "JPEG", (64, 64)),
    "BMP, short lines": (lambda: bmp.short_lines(50), "BMP", (50, 50)),
    "BMP, runs of 4 bits": (lambda: bmp.nibbles(50), "BMP", (50, 50)),
    "GIF": (lambda: gif.solid(300, 200), "GIF", (300, 200)),
    "GIF, frames": (lambda: gif.many_frames(5, 60, 40), "GIF", (60, 40)),
    "WebP, frames": (lambda: webp.animation(5, 60), "WEBP", (60, 60)),
    "TIFF, deflated": (lambda: tiff.deflate_bomb(50), "TIFF", (50, 50)),
    "TIFF, strips of one row": (lambda: tiff.one_row_strips(40, 30), "TIFF", (40, 30)),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_files_can_be_read(name: str) -> None:
    make, kind, size = LEGAL[name]
    data = make()
    image = Image.open(io.BytesIO(data))
    image.load()
    assert (image.format, image.size) == (kind, size)
    assert make() == data


def test_zeros_are_a_complete_stream() -> None:
    for count in (0, 4, 65_521, (1 << 20) + 7):
        assert zlib.decompress(png.zlib_zeros(count)) == bytes(count)


def test_malformed_files_are_small_and_all_different() -> None:
    files = malformed()
    assert len(set(files.values())) == len(files) > 100
    assert max(map(len, files.values())) < 100_000


def test_no_answer_and_a_server_error_are_unexpected() -> None:
    assert unexpected([200, 422, 0, 500, 504, 500]) == [0, 500]
