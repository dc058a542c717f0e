"""Image files' bytes -> upright RGB: every mode, orientation, limits, and damage."""

import contextlib
import io
import random
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.errors import DamagedImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from dynrefer.model.images import ImageInfo, Pixels, decode_image
from dynrefer.model.orientation import stored_view
from tests.service.conftest import COLOUR, HEIGHT, WIDTH, image_bytes

LIMIT = 1_000_000


def decoded(data: bytes, limit: int = LIMIT) -> Pixels:
    return decode_image(data, limit).pixels


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(mode: str = "RGB") -> Image.Image:
    """An image in which no two corners are alike."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    pixels = np.stack([rows * 4, columns * 3, np.full_like(rows, 90)], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "tolerance"),
    [
        ("PNG", "RGB", {}, 0),
        ("PNG", "P", {}, 4),
        ("BMP", "RGB", {}, 0),
        ("GIF", "P", {}, 4),
        ("JPEG", "RGB", {"quality": 95}, 4),
        ("JPEG", "CMYK", {"quality": 95}, 6),
        ("WEBP", "RGB", {"lossless": True}, 0),
    ],
)
def test_formats(kind: str, mode: str, options: dict[str, Any], tolerance: int) -> None:
    pixels = decoded(image_bytes(kind, mode, **options), LIMIT)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - COLOUR).max() <= tolerance


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("L", "JPEG"), ("L", "BMP")])
def test_grey(mode: str, kind: str) -> None:
    pixels = decoded(encoded(Image.new(mode, (4, 3), 255), kind), LIMIT)
    assert pixels.shape == (3, 4, 3) and (pixels == 255).all()


def test_sixteen_bit_grey_keeps_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 32_768, 65_535]], dtype=np.uint16)
    pixels = decoded(encoded(Image.fromarray(values), "PNG"), LIMIT)
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_sixteen_bit_colour() -> None:
    rows = b"\0" + struct.pack(">6H", 0, 32_768, 65_535, 256, 512, 1_024)
    assert decoded(png(2, 1, rows, depth=16, colour=2), LIMIT).tolist() == [[[0, 128, 255], [1, 2, 4]]]


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_composited_over_white(kind: str) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = decoded(encoded(image, kind, **options), LIMIT)
    assert pixels[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127]]


def test_grey_with_alpha() -> None:
    assert decoded(encoded(Image.new("LA", (1, 1), (0, 0)), "PNG"), LIMIT).tolist() == [[[255, 255, 255]]]


def test_transparent_palette_entry_and_colour() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        pixels = decoded(encoded(palette, kind, transparency=1), LIMIT)
        assert pixels.tolist() == [[[255, 0, 0], [255, 255, 255]]]
    keyed = encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert decoded(keyed, LIMIT).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decoded(data, LIMIT)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = np.asarray(ramp())
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_image(encoded(Image.fromarray(stored_view(upright, orientation)), "PNG", exif=exif), LIMIT)
    assert (found.pixels == upright).all() and found.pixels.flags.c_contiguous
    assert found.info == ImageInfo(WIDTH, HEIGHT, orientation)


def test_the_header_is_reported_before_any_pixel_is_decoded() -> None:
    sizes: list[tuple[int, int]] = []
    with pytest.raises(DamagedImageError):
        decode_image(png(7, 5, b""), LIMIT, lambda *size: sizes.append(size))
    assert sizes == [(7, 5)]
    with pytest.raises(ImageTooLargeError):
        decode_image(png(7, 5, b""), 34, lambda *size: sizes.append(size))
    assert sizes == [(7, 5)]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_orientation() -> None:
    data = encoded(ramp(), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff broken")
    assert (decoded(data, LIMIT) == np.asarray(ramp())).all()


def test_colour_profile_is_dropped() -> None:
    assert (decoded(encoded(ramp(), "PNG", icc_profile=b"not a profile"), LIMIT) == np.asarray(ramp())).all()


def test_size_is_checked_by_the_header() -> None:
    assert decoded(image_bytes(), WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageTooLargeError, match="64 x 48"):
        decoded(image_bytes(), WIDTH * HEIGHT - 1)
    with warnings.catch_warnings(), pytest.raises(ImageTooLargeError):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        decoded(png(40_000, 40_000, b""), LIMIT)
    with warnings.catch_warnings(), pytest.raises(ImageTooLargeError):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        decoded(png(10_000, 10_000, b""), LIMIT)  # in Pillow's range of warning, not of refusing


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_cut_short_anywhere(kind: str) -> None:
    data = encoded(ramp(), kind)
    for length in sorted({0, 1, 2, 4, 8, 16, 24, 30, *range(32, len(data) - 64, max(1, len(data) // 40))}):
        with pytest.raises((DamagedImageError, UnsupportedImageError)) as refused:
            decoded(data[:length], LIMIT)
        assert isinstance(refused.value, DamagedImageError) or length < 16, length


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_damage_never_surprises(kind: str) -> None:
    rng = random.Random(kind)
    whole = encoded(ramp(), kind)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with contextlib.suppress(ImageError):
            assert decoded(bytes(data), LIMIT).dtype == np.uint8


@pytest.mark.parametrize("data", [b"", b"text", b"<svg xmlns='a'/>", b"%PDF-1.7", b"\0" * 100])
def test_other_formats_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError):
        decoded(data, LIMIT)


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "PDF", "JPEG2000", "EPS"])
def test_other_formats_that_pillow_reads_are_unsupported_too(kind: str) -> None:
    with pytest.raises(UnsupportedImageError):
        decoded(encoded(ramp(), kind), LIMIT)
