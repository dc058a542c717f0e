"""Image files' bytes -> upright RGB: every mode, orientation, limits, and damage."""

import base64
import contextlib
import importlib.util
import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from dynrefer.model.errors import (
    DamagedImageError,
    ImageError,
    ImageTooCostlyError,
    ImageTooLargeError,
    QueryError,
    UnsupportedImageError,
)
from dynrefer.model.images import ImageInfo, Pixels, decode_image, forbid_bombs, upright_pixels
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
        ("AVIF", "RGB", {"quality": 95}, 4),
        ("TIFF", "RGB", {}, 0),
        ("TIFF", "P", {}, 4),
        ("TIFF", "CMYK", {"compression": "tiff_lzw"}, 0),
        ("TIFF", "RGB", {"compression": "jpeg", "quality": 95}, 4),
        ("TIFF", "RGB", {"big_tiff": True}, 0),
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


def plain(data: bytes) -> Pixels:
    """What Pillow makes of the whole image at once."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


MODES = [
    *[("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
    ("PNG", "P", {"transparency": bytes(range(200))}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "L", {"transparency": 3}),
    ("PNG", "RGB", {"transparency": (1, 2, 3)}),
    *[("JPEG", mode, {"progressive": True}) for mode in ("RGB", "L", "CMYK")],
    ("JPEG", "RGB", {"restart_marker_blocks": 3}),
    *[("WEBP", mode, {"lossless": True}) for mode in ("RGB", "RGBA")],
    ("WEBP", "RGBA", {}),
    *[("AVIF", mode, {"speed": 10}) for mode in ("RGB", "RGBA", "L")],
    *[("TIFF", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK", "YCbCr", "LAB")],
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}),
    *[("BMP", mode, {}) for mode in ("RGB", "RGBA", "L", "P", "1")],
    *[("GIF", mode, {}) for mode in ("L", "P")],
    ("GIF", "P", {"transparency": 3}),
]


@pytest.mark.parametrize(("kind", "mode", "options"), MODES)
@pytest.mark.parametrize("orientation", [1, 7])
def test_strips_give_the_bytes_of_the_whole(
    kind: str, mode: str, options: dict[str, Any], orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynrefer.model.rgb.STRIP_PIXELS", 100)
    noise = np.random.default_rng(1).integers(0, 256, (33, 47, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 256 + noise[..., 1])
    else:
        rgba = Image.fromarray(noise)
        rgb = rgba.convert("RGB")
        image = rgb.quantize(200) if mode == "P" else (rgb if mode in ("LAB", "YCbCr") else rgba).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {} if kind in ("BMP", "GIF") else {"exif": exif}
    data = encoded(image, kind, **options, **turned)
    found = decode_image(data, LIMIT)
    assert found.pixels.flags.c_contiguous and found.info.orientation == (orientation if turned else 1)
    assert found.pixels.shape == plain(data).shape and (found.pixels == plain(data)).all()


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


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options), LIMIT)
    assert np.abs(found.pixels[0, 0].astype(int) - (255, 0, 0)).max() <= (6 if kind in ("MPO", "AVIF") else 0)
    assert found.info == ImageInfo(16, 16, frames=3)


def test_an_image_that_stands_in_for_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert decode_image(data, LIMIT).info.frames == 3


def test_a_lie_about_frames_costs_nothing() -> None:
    data = png(1, 1, bytes(4), 8, 2, (b"acTL", struct.pack(">II", 2**31, 0)))
    assert decode_image(data, LIMIT).info.frames == 1
    directories = encoded(ramp(), "TIFF")
    at = struct.unpack_from("<L", directories, 4)[0]
    (count,) = struct.unpack_from("<H", directories, at)
    loop = bytearray(directories)
    struct.pack_into("<L", loop, at + 2 + 12 * count, at)  # the next directory is itself
    assert decode_image(bytes(loop), LIMIT).info.frames == 1


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("entry", "orientation"),
    [
        (struct.pack(">HHL4s", 0x112, 3, 1, b"\0\6\0\0"), 6),
        (struct.pack(">HHL4s", 0x112, 4, 1, b"\0\0\0\6"), 6),
        (struct.pack(">HHL4s", 0x112, 1, 1, b"\6\0\0\0"), 6),
        (struct.pack(">HHL4s", 0x112, 2, 2, b"6\0\0\0"), 6),  # as text
        (struct.pack(">HHL4s", 0x112, 3, 1, b"\0\x09\0\0"), 1),
        (struct.pack(">HHL4s", 0x112, 3, 1, b"\0\0\0\0"), 1),
        (struct.pack(">HHL4s", 0x112, 2, 4, b"six\0"), 1),
        (struct.pack(">HHL4s", 0x112, 3, 4_000_000_000, b"\0\6\0\0"), 1),
        (struct.pack(">HHL4s", 0x112, 99, 1, b"\0\6\0\0"), 1),
    ],
)
def test_orientation_however_it_is_stored(kind: str, entry: bytes, orientation: int) -> None:
    exif = b"Exif\0\0MM\0*" + struct.pack(">LH", 8, 1) + entry + bytes(4)
    if kind == "TIFF":
        data = bytearray(encoded(ramp(), kind, exif=turned_by(3)))  # by a library that writes what it knows
        at = data.index(struct.pack("<HHL", 0x112, 3, 1))
        tag, form, count, value = struct.unpack(">HHL4s", entry)
        number = value[: {1: 1, 3: 2, 4: 4}.get(form, 0)]
        struct.pack_into("<HHL4s", data, at, tag, form, count, number[::-1].ljust(4, b"\0") if number else value)
    else:
        data = bytearray(encoded(ramp(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    assert decode_image(bytes(data), LIMIT).info.orientation == orientation
    assert upright_pixels(bytes(data)).shape[:2] == ((WIDTH, HEIGHT) if orientation == 6 else (HEIGHT, WIDTH))


def turned_by(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_pillow_image_is_turned_the_same_way() -> None:
    for stored in (6, "6", 6.0):
        image = ramp()
        image.getexif()[0x0112] = stored
        assert upright_pixels(image).shape[:2] == (WIDTH, HEIGHT), stored
    image.getexif()[0x0112] = "six"
    assert upright_pixels(image).shape[:2] == (HEIGHT, WIDTH)


def test_orientation_of_xmp_and_of_imagemagick() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for data in (encoded(ramp(), "JPEG", xmp=xmp), encoded(ramp(), "WEBP", xmp=xmp)):
        assert decode_image(data, LIMIT).info.orientation == 6
    exif = turned_by(6).tobytes()
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    assert decode_image(encoded(ramp(), "PNG", pnginfo=texts), LIMIT).info.orientation == 6
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    assert decode_image(encoded(ramp(), "PNG", pnginfo=texts), LIMIT).info.orientation == 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\xff\xff broken", b"Exif\0\0", b"MM", b"\xff" * 100])
def test_damaged_exif_is_no_orientation(kind: str, exif: bytes) -> None:
    whole = encoded(ramp(), kind)
    if kind == "TIFF":
        data = whole + exif
    elif kind == "AVIF":
        data = encoded(ramp(), kind, exif=turned_by(1))
        data = data.replace(b"Exif\0\0", b"Exif\1\1") if b"Exif\0\0" in data else data
    else:
        data = encoded(ramp(), kind, exif=exif)
    assert (decoded(data, LIMIT) == decoded(whole, LIMIT)).all()


def test_large_and_damaged_metadata_of_png_costs_nothing() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", '{"node": 1}' * 200_000, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x/>" * 400_000, zip=True)
    data = encoded(ramp(), "PNG", pnginfo=texts, icc_profile=bytes(1_500_000))
    assert (decoded(data, LIMIT) == np.asarray(ramp())).all()
    for name in (
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"iCCP",
        b"eXIf",
        b"gAMA",
        b"cHRM",
        b"pHYs",
        b"sRGB",
        b"acTL",
        b"fcTL",
        b"PLTE",
    ):
        for body in (b"", b"\0", b"Raw profile type exif\0\0\1\2\3", b"XML:com.adobe.xmp\0\1\0\0\0\1", b"\xff" * 40):
            rows = b"\0" + bytes(range(6))
            assert decoded(png(2, 1, rows, 8, 2, (name, body)), LIMIT).ravel().tolist() == list(range(6)), (name, body)
    whole = png(2, 1, rows, 8, 2, (b"tEXt", b"key\0value"))
    assert decoded(whole.replace(b"value", b"VALUE"), LIMIT).ravel().tolist() == list(range(6))  # a wrong checksum


def test_metadata_of_jpeg_costs_nothing() -> None:
    whole = encoded(ramp(), "JPEG")
    resolution = struct.pack(">LHHHL4s", 8, 1, 0x11A, 2, 1, b"5\0\0\0") + bytes(4)
    for marker, body in (
        (0xE1, b"Exif\0\0MM\0*" + resolution),
        (0xE1, b"Exif\0\0MM\0*" + bytes(65_000)),
        (0xE2, b"MPF\0MM\0*\xff\xff\xff\xff"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM" * 9),
        (0xFE, b""),
    ):
        segment = struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
        assert (decoded(whole[:2] + segment * 3 + whole[2:], LIMIT) == decoded(whole, LIMIT)).all(), (marker, body[:20])


def test_a_jpeg_that_lacks_only_its_end_is_whole() -> None:
    for options in ({}, {"restart_marker_blocks": 2}, {"quality": 95, "subsampling": 0}):
        for mode in ("RGB", "L", "CMYK"):
            whole = encoded(ramp(mode), "JPEG", **options)
            assert whole.endswith(b"\xff\xd9")
            for end in (b"", b"\xff"):
                assert (decoded(whole[:-2] + end, LIMIT) == decoded(whole, LIMIT)).all()


@pytest.mark.parametrize(
    "options", [{}, {"restart_marker_blocks": 2}, {"restart_marker_rows": 1}, {"progressive": True}]
)
def test_a_jpeg_that_lacks_more_than_its_end_is_damaged(options: dict[str, Any]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG", quality=80, **options)
    shown, scan = decoded(whole, LIMIT), whole.index(b"\xff\xda")
    for missing in (*range(3, 60), *range(60, len(whole) - scan - 20, 37)):
        for end in (b"", b"\xff"):
            try:
                found = decoded(whole[:-missing] + end, LIMIT)
            except DamagedImageError as error:
                assert "cut short" in str(error)
            else:  # bits that only fill up the last byte
                assert missing < 5 and (found == shown).all(), missing


def test_kinds_that_cannot_be_decoded_are_not_called_damaged() -> None:
    whole = encoded(ramp(), "JPEG")
    frame = whole.index(b"\xff\xc0")
    with pytest.raises(UnsupportedImageError, match="12 bits per sample"):
        decoded(whole[: frame + 4] + b"\x0c" + whole[frame + 5 :], LIMIT)
    with pytest.raises(ImageError, match="cannot be decoded") as refused:
        decoded(png(2, 1, bytes(7), 8, 7), LIMIT)  # no such colour type
    assert "cut short" not in str(refused.value)


def test_a_palette_image_without_its_palette() -> None:
    with pytest.raises(DamagedImageError):
        decoded(png(4, 4, bytes(20), 8, 3), LIMIT)


def test_floods_of_parts_are_refused_before_they_cost() -> None:
    with pytest.raises(ImageTooCostlyError, match="parts"):
        decoded(png(1, 1, bytes(4), 8, 2, *[(b"tEXt", b"a\0b")] * 100_001), LIMIT)
    whole = encoded(ramp(), "JPEG")
    segment = b"\xff\xe1\0\x0aExif\0\0ab"
    assert decoded(whole[:2] + segment * 90_000 + whole[2:], LIMIT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageTooCostlyError, match="parts"):
        decoded(whole[:2] + segment * 100_001 + whole[2:], LIMIT)
    progressive = encoded(ramp("L"), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    with pytest.raises(ImageTooCostlyError, match="scans"):
        decoded(progressive[:last] + progressive[last:-2] * 1_000 + b"\xff\xd9", LIMIT)


def test_a_tiff_whose_pixels_are_cut_short() -> None:
    whole = encoded(ramp(), "TIFF")
    assert struct.unpack_from("<L", whole, 4)[0] < 100  # the directory stands in front of the pixels
    for missing in (1, 10, 1_000, len(whole) // 2):
        with pytest.raises(DamagedImageError, match="cut short"):
            decoded(whole[:-missing], LIMIT)


def test_twelve_bit_and_negative_tiff() -> None:
    values = np.array([[0, 16, 4_095]], dtype=np.uint16)
    assert decoded(tiff(values, 16), LIMIT)[0, :, 0].tolist() == [0, 0, 15]
    assert decoded(tiff(values * 16, 16, photometric=0), LIMIT)[0, :, 0].tolist() == [255, 254, 0]
    packed = bytes([0x00, 0x00, 0x10, 0xFF, 0xF0, 0x00])
    assert decoded(tiff(packed, 12, width=3), LIMIT)[0, :, 0].tolist() == [0, 1, 255]


def tiff(pixels: Any, bits: int, photometric: int = 1, width: int = 3) -> bytes:
    """A grey TIFF of one row, written by hand."""
    body = pixels if isinstance(pixels, bytes) else pixels.astype("<u2").tobytes()
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(body)}
    entries = b"".join(struct.pack("<HHLHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<L", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("kind", ["I", "F"])
def test_the_range_says_what_white_is_or_the_image_is_refused(kind: str) -> None:
    number = np.int32 if kind == "I" else np.float32
    good = {"I": [(0, 1, 255), (0, 256, 65_535)], "F": [(0.0, 0.25, 1.0), (0.0, 63.75, 255.0)]}[kind]
    bad = {"I": [(-1, 5, 9), (0, 5, 65_536)], "F": [(-0.5, 0, 1), (0, 1, 256.0), (0, np.nan, 1), (0, 1, np.inf)]}[kind]
    expected = {"I": [[0, 1, 255], [0, 1, 255]], "F": [[0, 64, 255], [0, 63, 255]]}[kind]
    for values, grey in zip(good, expected, strict=True):
        image = Image.fromarray(np.array([values], dtype=number))
        assert image.mode == kind
        assert upright_pixels(image)[0, :, 0].tolist() == grey
        assert decoded(encoded(image, "TIFF"), LIMIT)[0, :, 0].tolist() == grey
    for values in bad:
        image = Image.fromarray(np.array([values], dtype=number))
        with pytest.raises(QueryError):
            upright_pixels(image)
        with pytest.raises(UnsupportedImageError):
            decoded(encoded(image, "TIFF"), LIMIT)


def test_only_the_plugin_of_the_format_is_imported() -> None:
    code = (
        "import sys\nfrom dynrefer.model.images import decode_image\n"
        "decode_image(sys.stdin.buffer.read(), 10**6)\nprint(*sys.modules)"
    )
    for kind in ("WEBP", "TIFF", "JPEG"):
        done = subprocess.run([sys.executable, "-c", code], input=image_bytes(kind), capture_output=True, check=True)
        loaded = set(done.stdout.decode().split())
        assert not loaded & {"PIL.EpsImagePlugin", "PIL.PdfImagePlugin", "PIL.WmfImagePlugin", "PIL.MpoImagePlugin"}


def test_the_peak_of_memory() -> None:
    code = (
        "import resource, sys\nfrom dynrefer.model.images import decode_image\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "data = sys.stdin.buffer.read()\ndecode_image(data[: int(sys.argv[1])], 10**6)\nbefore = used()\n"
        "pixels = decode_image(data[int(sys.argv[1]) :], 10**8).pixels\n"
        "print((used() - before) * 3 / pixels.size)"
    )
    for kind, most in (("PNG", 8), ("WEBP", 13)):
        options = {"lossless": True, "quality": 0, "method": 0} if kind == "WEBP" else {}
        small, large = (
            encoded(Image.new("RGBA", (side, side), (200, 30, 30, 128)), kind, **options) for side in (64, 3_500)
        )
        command = [sys.executable, "-c", code, str(len(small))]
        done = subprocess.run(command, input=small + large, capture_output=True, check=True)
        assert float(done.stdout) < most, kind


def test_pillows_own_bound_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    data = bytearray(encoded(ramp("P"), "GIF"))
    struct.pack_into("<HH", data, 6, 8, 8)  # the screen, smaller than its image
    with warnings.catch_warnings():
        forbid_bombs(WIDTH * HEIGHT)
        assert decoded(bytes(data), LIMIT).shape == (HEIGHT, WIDTH, 3)
        forbid_bombs(WIDTH * HEIGHT - 1)
        with pytest.raises(ImageTooLargeError, match=f"{WIDTH * HEIGHT} pixels"):
            decoded(bytes(data), LIMIT)


# 64 x 32: the left half red, the right half blue.
HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA
AAAERAAAEAAQAAAAABoQABAAAAAAAAACQAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAA
AADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkA
AAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA
AAAoY2xhcAAAAEAAAAABAAAAIAAAAAEAAAAAAAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAC
xtZGF0AAAAICgBrxmA70mlv//f4x/19q/4pshf/72Qd9I+n++xw21v
"""


def test_heic_where_its_decoder_is_installed() -> None:
    if importlib.util.find_spec("pi_heif") is not None:
        pixels = decoded(base64.b64decode(HEIC), LIMIT).astype(int)
        assert pixels.shape == (32, 64, 3)
        assert np.abs(pixels[5, 5] - (200, 30, 30)).max() < 9 and np.abs(pixels[5, -5] - (20, 30, 200)).max() < 9
    data = bytes(4) + b"ftypheic" + bytes(40)
    if importlib.util.find_spec("pi_heif") is None:
        with pytest.raises(UnsupportedImageError, match="accepted formats: JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF"):
            decoded(data, LIMIT)
        return
    with pytest.raises(DamagedImageError):
        decoded(data, LIMIT)


def test_colour_profile_is_dropped() -> None:
    assert (decoded(encoded(ramp(), "PNG", icc_profile=b"not a profile"), LIMIT) == np.asarray(ramp())).all()


def test_size_is_checked_by_the_header() -> None:
    assert decoded(image_bytes(), WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageTooLargeError, match="64 x 48"):
        decoded(image_bytes(), WIDTH * HEIGHT - 1)
    for side in (10_000, 40_000):  # in Pillow's range of warning, and of refusing
        with warnings.catch_warnings(), pytest.raises(ImageTooLargeError, match=f"{side} x {side}"):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            decoded(png(side, side, b""), LIMIT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF", "TIFF"])
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
