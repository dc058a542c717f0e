"""Hostile images, made byte by byte: the same on every run, most of them below 2 MB.

`catalogue` names those whose cost is measured, `worst_legal_files` those that a service must decode as a matter of
course.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from benchmarks.attacks.images import avif, bmp, gif, jpeg, png, tiff, webp

SMALL_BODY, LARGE_BODY = 1_900_000, 30_000_000  # bytes: an ordinary upload, and just below the default limit on bodies
CAMERA_SIDE, LIMIT_SIDE = 3_464, 7_071  # pixels: squares of 12 megapixels, and of 50, the default limit on images

Makers = Mapping[str, Callable[[], bytes]]


def gradient(mode: str, side: int, kind: str, **options: object) -> bytes:
    """A square whose channels grow in different directions: it does not pack to nothing, but is quickly made."""
    grey = Image.linear_gradient("L").resize((side, side), Image.Resampling.NEAREST)
    image = Image.merge(mode, [grey.rotate(90 * turn) for turn in range(len(mode))])
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def smooth_noise(width: int, height: int) -> bytes:
    """A JPEG with something to see everywhere, as a photograph has; the same on every run."""
    coarse = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(out, "JPEG", quality=80)
    return out.getvalue()


def worst_legal_files() -> Makers:
    """Files without any flaw that take the most time or memory to decode."""
    return {
        "PNG, RGBA, 12 MP": lambda: gradient("RGBA", CAMERA_SIDE, "PNG", compress_level=1),
        "PNG, grey and alpha, 12 MP": lambda: gradient("LA", CAMERA_SIDE, "PNG", compress_level=1),
        "PNG, RGBA of 16 bits, interlaced, 50 MP": lambda: png.black_png(
            LIMIT_SIDE, LIMIT_SIDE, png.RGBA, 16, interlaced=True
        ),
        "WebP, RGBA, 12 MP": lambda: gradient("RGBA", CAMERA_SIDE, "WEBP", lossless=True, method=0),
        "WebP, RGBA, 50 MP in 38 bytes": lambda: webp.solid(LIMIT_SIDE),
        "JPEG, RGB, 50 MP": lambda: jpeg.solid_jpeg(LIMIT_SIDE),
        "JPEG, CMYK, progressive, 12 MP": lambda: jpeg.solid_jpeg(CAMERA_SIDE, "CMYK", progressive=True),
        "BMP, a run for every pixel, 4 MP": lambda: bmp.one_pixel_runs(2_000),
    }


def _png_and_jpeg() -> Makers:
    return {
        "PNG, empty data chunks": lambda: png.empty_data_chunks(SMALL_BODY),
        "PNG, empty data chunks, 30 MB": lambda: png.empty_data_chunks(LARGE_BODY),
        "PNG, data chunks of one byte, 50 MP": lambda: png.one_byte_data_chunks(LIMIT_SIDE, LIMIT_SIDE),
        "PNG, texts ahead": lambda: png.tiny_texts(SMALL_BODY),
        "PNG, texts ahead, 30 MB": lambda: png.tiny_texts(LARGE_BODY),
        "PNG, texts behind, 30 MB": lambda: png.tiny_texts(LARGE_BODY, late=True),
        "PNG, profile of 1.8 GB": lambda: png.profile_bomb(1_800_000_000),
        "PNG, zTXt of 1.8 GB": lambda: png.text_bomb(1_800_000_000),
        "PNG, iTXt of 1.8 GB": lambda: png.text_bomb(1_800_000_000, international=True),
        "PNG, 800 zTXt of 1 MB": lambda: png.many_texts_bomb(800, 1_000_000),
        "PNG, 65,535 broken Exif tags": lambda: png.broken_exif(65_535),
        "PNG, 20,000 frames": lambda: png.animation(64, 64, 20_000),
        "JPEG, 20,000 scans, 16 MP": lambda: jpeg.many_scans(20_000, 4_000),
        "JPEG, 60,000 scans, 1 MP": lambda: jpeg.many_scans(60_000, 1_000),
        "JPEG, 4,000 scans, 49 MP": lambda: jpeg.many_scans(4_000, 7_000),
        "JPEG, restart marker at every block, 25 MP": lambda: jpeg.restart_markers(5_000),
        "JPEG, stray restart markers": lambda: jpeg.stray_restarts(SMALL_BODY),
        "JPEG, Exif segments": lambda: jpeg.exif_segments(SMALL_BODY),
        "JPEG, Exif segments, 30 MB": lambda: jpeg.exif_segments(LARGE_BODY),
        "JPEG, profile segments, 30 MB": lambda: jpeg.profile_segments(LARGE_BODY),
        "JPEG, Photoshop segments, 30 MB": lambda: jpeg.photoshop_segments(LARGE_BODY),
        "JPEG, comments, 30 MB": lambda: jpeg.comments(LARGE_BODY),
        "JPEG, quantisation tables, 30 MB": lambda: jpeg.quantisation_tables(LARGE_BODY),
        "JPEG, Huffman tables, 30 MB": lambda: jpeg.huffman_tables(LARGE_BODY),
        "JPEG, fill bytes, 30 MB": lambda: jpeg.fill_bytes(LARGE_BODY),
        "JPEG, MPO of 4,000 images": lambda: jpeg.multi_picture(4_000),
    }


def _others() -> Makers:
    return {
        "BMP, lines of one pixel, 49 MP": lambda: bmp.short_lines(7_000),
        "BMP, runs of 4 bits, 49 MP": lambda: bmp.nibbles(7_000),
        "BMP, literal pixels, 16 MP": lambda: bmp.literal_pixels(4_000),
        "BMP, two pixels, 49 MP": lambda: bmp.one_pixel(7_000),
        "BMP, ends of lines": lambda: bmp.end_of_lines(SMALL_BODY),
        "BMP, ends of lines, 30 MB": lambda: bmp.end_of_lines(LARGE_BODY),
        "BMP, moves by nothing, 30 MB": lambda: bmp.moves(LARGE_BODY),
        "GIF, 50 MP": lambda: gif.solid(LIMIT_SIDE, LIMIT_SIDE),
        "GIF, interlaced, 50 MP": lambda: gif.solid(LIMIT_SIDE, LIMIT_SIDE, interlaced=True),
        "GIF, 120,000 frames on 49 MP": lambda: gif.many_frames(120_000, 7_000, 7_000),
        "GIF, comment blocks of one byte, 30 MB": lambda: gif.tiny_blocks(LARGE_BODY),
        "GIF, comments, 30 MB": lambda: gif.many_comments(LARGE_BODY),
        "WebP, 40,000 frames on 49 MP": lambda: webp.animation(40_000, 7_000),
        "WebP, XMP of 30 MB": lambda: webp.large_metadata(b"XMP ", b"x" * LARGE_BODY),
        "WebP, profile of 30 MB": lambda: webp.large_metadata(b"ICCP", b"x" * LARGE_BODY),
        "WebP, 65,535 broken Exif tags": lambda: webp.broken_exif(65_535),
        "WebP, empty chunks, 30 MB": lambda: webp.tiny_chunks(LARGE_BODY),
        "TIFF, deflated RGBA of 16 bits, 50 MP": lambda: tiff.deflate_bomb(LIMIT_SIDE),
        "TIFF, LZW, 50 MP": lambda: tiff.packed(LIMIT_SIDE, "RGB", "tiff_lzw"),
        "TIFF, group 4, 50 MP": lambda: tiff.packed(LIMIT_SIDE, "1", "group4"),
        "TIFF, 100,000 directories": lambda: tiff.directory_chain(100_000),
        "TIFF, directories in a circle": lambda: tiff.directory_chain(100, cyclic=True),
        "TIFF, 100,000 nested directories": lambda: tiff.nested_directories(100_000),
        "TIFF, 65,535 broken fields": lambda: tiff.broken_fields(65_535),
        "TIFF, strips of one row, 49 MP": lambda: tiff.one_row_strips(7_000, 7_000),
        "TIFF, tile of 400 MP": lambda: tiff.huge_tile(20_000),
        "TIFF, text of 30 MB": lambda: tiff.text(LARGE_BODY),
        "AVIF, RGBA, 50 MP": lambda: avif.solid(LIMIT_SIDE, "RGBA"),
        "AVIF, 300 frames, 1 MP": lambda: avif.solid(1_000, frames=300),
        "AVIF, empty boxes, 30 MB": lambda: avif.tiny_boxes(LARGE_BODY),
    }


def catalogue() -> Makers:
    """Every image whose CPU seconds, memory and neighbours are measured."""
    return {**_png_and_jpeg(), **_others(), **worst_legal_files()}


def malformed() -> dict[str, bytes]:
    """Small files that break one rule of their format each."""
    parts = {"PNG": png, "JPEG": jpeg, "BMP": bmp, "GIF": gif, "WebP": webp, "TIFF": tiff, "AVIF": avif}
    return {f"{kind}, {name}": data for kind, part in parts.items() for name, data in part.malformed().items()}


def not_images() -> dict[str, bytes]:
    """Files that are of none of the accepted formats: the answer is 415."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png.solid_png(8, 8))
    return {
        "nothing": b"",
        "text": b"an image of a dog\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "zip": packed.getvalue(),
        "gzip": b"\x1f\x8b\x08\0" + bytes(40),
        "PDF": b"%PDF-1.7\n%%EOF\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        "ICO": b"\0\0\1\0\1\0\x40\x40\0\0\1\0\x20\0" + bytes(40),
        "Photoshop": b"8BPS\0\1" + bytes(60),
        "PPM": b"P6 64 64 255\n" + bytes(64 * 64 * 3),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
        "video": b"\0\0\0\x18ftypmp42" + bytes(40),
    }
