"""Pictures of any mode -> upright RGB, the same for every door: HTTP, the command line, Python. No torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.errors import QueryError

Pixels = NDArray[np.uint8]


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
