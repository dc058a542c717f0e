"""What may be given as an image -> the bytes of a file, or the address that the service is to fetch. No I/O but reading
a named file; NumPy and Pillow only where the image is of theirs.
"""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.errors import QueryError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from dynrefer.model import ImageSource

# Pillow's modes that a PNG holds as they are, so that the service decodes what `DynRefer` would be given.
_MODES_OF_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_ORIENTATION = 0x0112  # the EXIF tag
_FAST = 1  # of zlib's levels: a PNG is made to travel once


def is_address(image: Any) -> bool:
    """Whether it is a URL, which the service fetches where its settings allow the host."""
    return isinstance(image, str) and image.lower().startswith(("https://", "http://"))


def image_bytes(image: "ImageSource") -> bytes:
    """The bytes of an image file: a file's and given ones as they are, pixels as a PNG.

    image: as for `DynRefer.describe`. Raises `QueryError` for anything else, and OSError for a file that cannot be
    opened.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _bytes_of(Path(image))
    if (pillow := sys.modules.get("PIL.Image")) is not None and isinstance(image, pillow.Image):
        return _png_of_image(image)
    if (numpy := sys.modules.get("numpy")) is not None and isinstance(image, numpy.ndarray):
        return _png_of_pixels(image)
    raise QueryError(
        "The image must be a file's path, its bytes, an https address, a Pillow image or an (H, W, 3) uint8 RGB array, "
        f"not {type(image).__name__}."
    )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except ValueError:  # a null in the name
        raise FileNotFoundError(f"no such file: {str(path)!r}") from None


def _png_of_image(image: "PilImage") -> bytes:
    image.load()
    if image.mode not in _MODES_OF_PNG:
        return _png_of_pixels(image)
    from PIL import Image

    buffer, exif = io.BytesIO(), Image.Exif()
    if turned := image.getexif().get(_ORIENTATION):
        exif[_ORIENTATION] = turned
    image.save(buffer, "PNG", compress_level=_FAST, exif=exif)
    return buffer.getvalue()


def _png_of_pixels(image: Any) -> bytes:
    """Of an array, or of a Pillow image that a PNG cannot hold, converted as the service would have done."""
    from PIL import Image

    from dynrefer.model import upright_pixels

    buffer = io.BytesIO()
    Image.fromarray(upright_pixels(image)).save(buffer, "PNG", compress_level=_FAST)
    return buffer.getvalue()
