"""Pictures of any mode -> upright RGB, the same for every door: HTTP, the command line, Python. No torch."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dynrefer.model.errors import PictureError, QueryError
from dynrefer.model.geometry import ImageSize

Pixels = NDArray[np.uint8]

# What Pillow's readers are seen to raise for a damaged file.
IMAGE_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def upright_pixels(image: str | Path | Image.Image | Pixels) -> Pixels:
    """(H, W, 3) uint8 RGB, EXIF orientation applied. For trusted input: a service has limits of its own.

    Raises `QueryError` for an array that is not (H, W, 3) uint8, and Pillow's errors for a file it cannot read.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise QueryError(f"The image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}.")
        return image
    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            return upright_pixels(opened)
    return rgb_pixels(ImageOps.exif_transpose(image))


def annotated_pixels(path: Path, listed: ImageSize | None) -> Pixels:
    """(H, W, 3) uint8 RGB in the frame of a picture's annotations; listed: the (width, height) that they say it has.

    Upright, unless only the picture as it is stored has the listed size: then the annotations were made on that.
    Raises `PictureError`: no such file, one that cannot be read, or one of another size.
    """
    try:
        with Image.open(path) as opened:
            upright = upright_pixels(opened)
            if listed is None or listed == _size(upright):
                return upright
            stored = rgb_pixels(opened)
    except FileNotFoundError as error:
        raise PictureError(f"there is no picture {path}") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a picture") from error
    except IMAGE_DECODE_ERRORS as error:
        raise PictureError(f"the picture {path} cannot be read: {str(error).strip().rstrip('.')}") from error
    if listed == _size(stored):
        return stored
    raise PictureError("{} is {} x {} pixels, but listed as {} x {}".format(path, *_size(upright), *listed))


def _size(pixels: Pixels) -> ImageSize:
    return pixels.shape[1], pixels.shape[0]


def rgb_pixels(image: Image.Image) -> Pixels:
    """Any mode that Pillow's readers give -> (H, W, 3) uint8; what is transparent lies on white."""
    if image.mode.startswith("I"):
        # 16-bit grey. Pillow's own conversion clips at 255; the high byte is what its 16-bit colour reader
        # keeps.
        grey = (np.asarray(image).clip(0, 65_535) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
