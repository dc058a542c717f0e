"""An image file's bytes -> upright RGB pixels, as the service decodes them. CPU work: call it in a worker thread."""

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model import decode_image


def forbid_bombs() -> None:
    """Make Pillow refuse a decompression bomb where it would only warn of one. Holds for the whole process, as filters
    of warnings do: called when the service starts, never at import."""
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright, C-contiguous. Raises an `ImageError`, which `api/problems.py` maps to HTTP."""
    return decode_image(data, max_pixels)
