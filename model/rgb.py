"""Decoded pixels of any mode -> upright RGB, a strip of rows at a time. No torch.

Every mode is converted pixel by pixel, so strips give the bytes that the whole image would; what they save is a copy of
the whole image at each step: the result and the decoded image are the only two.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import UnsupportedImageError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.orientation import TURNS, stored_view

Pixels = NDArray[np.uint8]
# (first row, row behind the last) -> (rows, W, 3) uint8 RGB of the stored image.
RowReader = Callable[[int, int], Pixels]

STRIP_PIXELS = 1 << 18
EIGHT_BITS, SIXTEEN_BITS = 255, 65_535


def upright_rgb(size: ImageSize, rows: RowReader, orientation: int = 1) -> Pixels:
    """(H, W, 3) uint8 RGB, upright, C-contiguous. size: (width, height) of the stored image, in pixels."""
    width, height = size
    swapped, _, _ = TURNS[orientation]
    upright = np.empty((width, height, 3) if swapped else (height, width, 3), dtype=np.uint8)
    stored = stored_view(upright, orientation)
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        stored[top:bottom] = rows(top, bottom)
    return upright


def rows_of_image(image: Image.Image, grey_bits: int = 16, white_is_zero: bool = False) -> RowReader:
    """The rows of a decoded image of any mode; transparency is composited over white.

    grey_bits: how many bits the values of a 16-bit grey image have. white_is_zero: whether such an image is a negative.
    Raises `UnsupportedImageError` for 32-bit integers and floats whose range does not tell what is white.
    """
    convert = _converter(image, grey_bits, white_is_zero)
    whole = (0, image.height)
    return lambda top, bottom: convert(image if (top, bottom) == whole else image.crop((0, top, image.width, bottom)))


def rows_of_bytes(data: bytes, size: ImageSize, mode: str) -> RowReader:
    """The rows of pixels in bytes. mode: RGB, RGBA, or RGBX, whose fourth byte means nothing."""
    width, height = size
    pixels = np.frombuffer(data, dtype=np.uint8).reshape(height, width, len(mode))
    if mode != "RGBA":
        return lambda top, bottom: pixels[top:bottom, :, :3]
    return lambda top, bottom: _over_white(
        Image.frombuffer(mode, (width, bottom - top), data[top * width * 4 : bottom * width * 4], "raw", mode, 0, 1)
    )


def _converter(image: Image.Image, grey_bits: int, white_is_zero: bool) -> Callable[[Image.Image], Pixels]:
    if image.mode.startswith("I;16"):
        return lambda strip: _grey(np.asarray(strip), grey_bits, white_is_zero)
    if image.mode == "I":
        low, high = cast(tuple[int, int], image.getextrema())
        if low < 0 or high > SIXTEEN_BITS:
            raise _unclear_range(image.mode, low, high)
        return lambda strip: _grey(np.asarray(strip), 8 if high <= EIGHT_BITS else 16, False)
    if image.mode == "F":
        least, most = cast(tuple[float, float], image.getextrema())
        if not 0 <= least <= most <= EIGHT_BITS:
            raise _unclear_range(image.mode, least, most)
        return lambda strip: _from_floats(strip, 1 if most > 1 else EIGHT_BITS)
    return _from_colours


def _unclear_range(mode: str, low: float, high: float) -> UnsupportedImageError:
    ranges = "0..255 or 0..65535" if mode == "I" else "0..1 or 0..255"
    kind = "integers" if mode == "I" else "floats"
    return UnsupportedImageError(f"The image's {kind} have to be in {ranges}, and are from {low:g} to {high:g}.")


def _grey(values: NDArray[np.integer], bits: int, white_is_zero: bool) -> Pixels:
    """(rows, W) integers of so many bits -> (rows, W, 3): their 8 high bits, as Pillow's 16-bit colour reader keeps."""
    high = (values >> (bits - 8)).astype(np.uint8)
    return np.repeat((~high if white_is_zero else high)[..., None], 3, axis=2)


def _from_floats(strip: Image.Image, factor: int) -> Pixels:
    values = np.asarray(strip)
    if not np.isfinite(values).all():  # which extremes do not show
        raise UnsupportedImageError("The image has NaN or infinity among its pixels.")
    if factor == 1:
        return _from_colours(strip)
    return np.repeat(np.rint(values * factor).astype(np.uint8)[..., None], 3, axis=2)


def _from_colours(strip: Image.Image) -> Pixels:
    if strip.has_transparency_data:
        return _over_white(strip.convert("LA") if strip.mode == "La" else strip)
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _over_white(strip: Image.Image) -> Pixels:
    rgba = strip if strip.mode == "RGBA" else strip.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
