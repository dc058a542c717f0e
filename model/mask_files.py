"""Masks in files: a PNG, or the alpha channel of the image itself. No torch.

Decoded where images are, within their limits: a mask's size is compared with the image's before it is decoded, so that
it costs no more than an image does.
"""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from dynrefer.model.containers import format_of, open_container
from dynrefer.model.errors import ImageError, PromptError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import DecodedImage, decode_image, errors_of_decoders, ignore_header, png_image
from dynrefer.model.masks import RegionMask, mask_from_bitmap
from dynrefer.model.orientation import upright_view
from dynrefer.model.rgb import STRIP_PIXELS
from dynrefer.model.run_lengths import Bitmap

HALF, HALF_OF_16_BITS = 127, 32_767  # of brightness and opacity; what is above belongs to the region
# Pillow's names of the formats that can have an alpha channel.
WITH_ALPHA = {"PNG": "PNG", "WebP": "WEBP", "AVIF": "AVIF", "TIFF": "TIFF", "GIF": "GIF"}


def mask_of_png(data: bytes, size: ImageSize) -> RegionMask:
    """What a PNG shows, as it is stored: pixels whose brightest channel is above half. Transparent ones are black.

    size: (width, height) of the image that the mask is of; the PNG must have it too.
    Raises `PromptError` for another format or size, a damaged file, and one without such a pixel.
    """
    if format_of(data) != "PNG":
        raise PromptError("The mask is not a PNG file.", "mask/png")
    try:
        with errors_of_decoders():
            image = png_image(open_container(data))
        if image.size != size:
            width, height = image.size
            raise PromptError(
                f"The mask has {width} x {height} pixels, and the image {size[0]} x {size[1]}: they must be the same, "
                "in the request's orientation.",
                "mask/png",
            )
        with errors_of_decoders():
            image.load()
            bitmap = _in_strips(image, _bright)
    except ImageError as error:
        raise PromptError(str(error).replace("The image", "The mask", 1), "mask/png") from error
    if not bitmap.any():
        raise PromptError(
            f"The mask is empty: no pixel is brighter than half. {_brightest(image)}".rstrip(), "mask/png"
        )
    return mask_from_bitmap(bitmap)


def decode_with_alpha(
    data: bytes | memoryview, max_pixels: int | None, on_header: Callable[[int, int], None] = ignore_header
) -> DecodedImage:
    """`decode_image`, and in `info.alpha` the pixels that the file's alpha channel shows, more than half opaque; None
    where it has no alpha channel. The file is decoded twice."""
    found = decode_image(data, max_pixels, on_header)
    container = open_container(bytes(data))
    if container.format not in WITH_ALPHA:
        return found
    whole = container.data + container.endings[0]
    with errors_of_decoders(), Image.open(io.BytesIO(whole), formats=(WITH_ALPHA[container.format],)) as image:
        image.load()
        if not image.has_transparency_data:
            return found
        shown = upright_view(_in_strips(image, _opaque), found.info.orientation)
    return replace(found, info=replace(found.info, alpha=mask_from_bitmap(shown)))


def _in_strips(image: Image.Image, test: Callable[[Image.Image], Bitmap]) -> Bitmap:
    """(H, W) bool of a decoded image, made from a strip of rows at a time."""
    width, height = image.size
    found = np.empty((height, width), dtype=bool)
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        found[top : top + step] = test(image.crop((0, top, width, min(top + step, height))))
    return found


def _bright(strip: Image.Image) -> Bitmap:
    if strip.mode.startswith("I"):
        return np.asarray(strip) > HALF_OF_16_BITS
    if not strip.has_transparency_data:
        grey = strip.mode in ("1", "L")
        values = np.asarray(strip.convert("L" if grey else "RGB"))
        return values > HALF if grey else np.asarray(values.max(axis=2) > HALF)
    values = np.asarray(strip.convert("RGBA")).astype(np.uint16)
    return np.asarray(values[..., :3].max(axis=2) * values[..., 3] > HALF * 255)


def _opaque(strip: Image.Image) -> Bitmap:
    return np.asarray(strip.convert("RGBA").getchannel("A")) > HALF


def _brightest(image: Image.Image) -> str:
    """Masks of zeros and ones are common."""
    if image.mode != "L":
        return ""
    most = int(np.asarray(image).max())
    return f"Its brightest has {most} of 255; multiply by {255 // most}." if most else "It is black."
