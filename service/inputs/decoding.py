"""Bytes -> upright RGB pixels, within limits. CPU work: call it in a worker thread.

Only the formats below are tried; the first frame is used; the size in the header is checked before anything
is decoded; EXIF orientation is applied; colour profile and all other metadata are dropped; alpha is laid
over white.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dynrefer.model import IMAGE_DECODE_ERRORS, rgb_pixels
from dynrefer.service.errors import ImageTooLargeError, InvalidRequestError, UnsupportedMediaError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def forbid_bombs() -> None:
    """Make Pillow's warning about decompression bombs an error; filters hold for the whole process."""
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright, C-contiguous.

    Raises UnsupportedMediaError (not one of FORMATS), ImageTooLargeError (by the header, before decoding) and
    InvalidRequestError at /image (one of FORMATS, but damaged or cut short).
    """
    with _open(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageTooLargeError(f"The image has {width} x {height} pixels; at most {max_pixels} are accepted.")
        try:
            image.load()
            turned = image.transpose(UPRIGHT[turn]) if (turn := _orientation(image)) in UPRIGHT else image
            return np.ascontiguousarray(rgb_pixels(turned))
        except IMAGE_DECODE_ERRORS:  # none of their text reaches a client
            raise _damaged() from None


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLargeError("The image has too many pixels.") from None
    except UnidentifiedImageError:
        if data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise _damaged() from None
        raise UnsupportedMediaError(
            "The image is not one of the accepted formats: JPEG, PNG, WebP, BMP, GIF."
        ) from None
    except IMAGE_DECODE_ERRORS:
        raise _damaged() from None


def _damaged() -> InvalidRequestError:
    return InvalidRequestError.at("/image", "The image is damaged or cut short.")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, else 1. Damaged metadata does not make a good picture a bad one."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except IMAGE_DECODE_ERRORS:
        return 1
