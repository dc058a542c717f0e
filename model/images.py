"""Images of any mode -> upright RGB, the same for HTTP, the command line and Python. No torch.

`decode_image` is for bytes from strangers: a few formats, within limits, and errors whose text may be shown.
`upright_pixels` is for what a program already trusts, `annotated_pixels` for the files that annotations list.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dynrefer.model.errors import (
    AnnotatedImageError,
    DamagedImageError,
    ImageTooLargeError,
    QueryError,
    UnsupportedImageError,
)
from dynrefer.model.geometry import ImageSize
from dynrefer.model.orientation import TURNS, upright_view
from dynrefer.model.types import ImageInfo

__all__ = [
    "DecodedImage",
    "ImageInfo",
    "Pixels",
    "annotated_pixels",
    "decode_image",
    "forbid_bombs",
    "rgb_pixels",
    "upright_pixels",
]

Pixels = NDArray[np.uint8]

# What `decode_image` accepts, by Pillow's names, and how such files begin; WebP's signature is in two parts.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")

ORIENTATION = 0x0112  # EXIF tag

# What Pillow's readers have been seen to raise for damaged files.
_DECODE_ERRORS = (
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


def forbid_bombs() -> None:
    """Make Pillow refuse a decompression bomb where it would only warn of one. Holds for the whole process, as filters
    of warnings do: called when a process starts to decode images from strangers, never at import."""
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """pixels: (H, W, 3) uint8 RGB, upright, C-contiguous. info: what the header says of them."""

    pixels: Pixels
    info: ImageInfo


def _ignore(width: int, height: int) -> None:
    pass


def decode_image(
    data: bytes | memoryview, max_pixels: int, on_header: Callable[[int, int], None] = _ignore
) -> DecodedImage:
    """The upright RGB pixels of an image file's bytes; CPU work.

    Only FORMATS are tried. The size in the header is checked before anything is decoded. The first frame is used,
    the EXIF orientation applied, alpha composited over white; colour profile and other metadata are dropped.
    on_header: called with the width and height of the stored rows and columns once they are known and accepted, before
    any pixel is decoded.

    Raises `ImageTooLargeError` for more than max_pixels (width x height), `UnsupportedImageError` for bytes that are
    none of FORMATS, and `DamagedImageError` for one of them that is damaged or cut short.
    """
    with _open(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageTooLargeError(f"The image has {width} x {height} pixels; at most {max_pixels} are accepted.")
        on_header(width, height)
        try:
            image.load()
            orientation = _orientation(image)
            pixels = np.ascontiguousarray(upright_view(rgb_pixels(image), orientation))
        except _DECODE_ERRORS:  # their text is not for clients
            raise _damaged() from None
    return DecodedImage(pixels, ImageInfo(pixels.shape[1], pixels.shape[0], orientation))


def _open(data: bytes | memoryview) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the warning where filters make it an error
        raise ImageTooLargeError("The image has too many pixels.") from None
    except UnidentifiedImageError:
        head = bytes(data[:12])
        if head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP"):
            raise _damaged() from None
        raise UnsupportedImageError(
            "The image is not one of the accepted formats: JPEG, PNG, WebP, BMP, GIF."
        ) from None
    except _DECODE_ERRORS:
        raise _damaged() from None


def _damaged() -> DamagedImageError:
    return DamagedImageError("The image is damaged or cut short.")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the metadata is damaged: the pixels may still be good."""
    try:
        orientation = int(image.getexif().get(ORIENTATION, 1))
    except _DECODE_ERRORS:
        return 1
    return orientation if orientation in TURNS else 1


def upright_pixels(image: str | Path | Image.Image | Pixels) -> Pixels:
    """(H, W, 3) uint8 RGB, EXIF orientation applied. For trusted input: there are no limits.

    Raises `QueryError` for an array that is not (H, W, 3) uint8, `UnsupportedImageError` for a file that is no image,
    `DamagedImageError` for an image that cannot be decoded, and OSError for a file that cannot be opened.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise QueryError(f"The image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}.")
        return image
    if not isinstance(image, Image.Image):
        with open(image, "rb") as file:
            return _upright_file(file, str(image))
    return rgb_pixels(ImageOps.exif_transpose(image))


def _upright_file(file: BinaryIO, name: str) -> Pixels:
    try:
        with Image.open(file) as opened:
            return rgb_pixels(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise UnsupportedImageError(f"{name} is not an image.") from None
    except _DECODE_ERRORS as error:
        raise DamagedImageError(f"the image {name} cannot be read: {str(error).strip().rstrip('.')}.") from error


def annotated_pixels(path: Path, listed: ImageSize | None) -> Pixels:
    """(H, W, 3) uint8 RGB in the frame of the image's annotations; listed: the (width, height) that they state.

    Upright, unless only the image as stored has the listed size: then it was annotated as stored.
    Raises `AnnotatedImageError`: no such file, one that cannot be read, or one of another size.
    """
    try:
        with Image.open(path) as opened:
            upright = upright_pixels(opened)
            if listed is None or listed == _size(upright):
                return upright
            stored = rgb_pixels(opened)
    except FileNotFoundError as error:
        raise AnnotatedImageError(f"there is no image {path}") from error
    except UnidentifiedImageError as error:
        raise AnnotatedImageError(f"{path} is not an image") from error
    except _DECODE_ERRORS as error:
        raise AnnotatedImageError(f"the image {path} cannot be read: {str(error).strip().rstrip('.')}") from error
    if listed == _size(stored):
        return stored
    raise AnnotatedImageError("{} is {} x {} pixels, but listed as {} x {}".format(path, *_size(upright), *listed))


def _size(pixels: Pixels) -> ImageSize:
    return pixels.shape[1], pixels.shape[0]


def rgb_pixels(image: Image.Image) -> Pixels:
    """(H, W, 3) uint8 RGB from any mode that Pillow's readers give; transparency is composited over white."""
    if image.mode.startswith("I"):
        # 16-bit grey. Pillow's own conversion clips at 255; the high byte is what its 16-bit colour reader keeps.
        grey = (np.asarray(image).clip(0, 65_535) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
