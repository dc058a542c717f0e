"""Masks as Label Studio writes those of its brush: run lengths of the RGBA values of all pixels, row by row, as a list
of bytes.

The bits, most significant first: the number of values (32 bits), the bits of a value less one (5), and four sizes of
run lengths in bits, each less one (4 bits each). Then runs: one bit whether all values are the same, two which of the
four sizes the run's length has, the length less one, and the value, or each of the values. What counts is the alpha
value.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.bool_]

CHANNELS = 4
OPAQUE = 128  # from this alpha on, a pixel belongs to the region
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)  # as Label Studio's own tools choose them
MOST_BYTES = 1 << 24


class BrushError(ValueError):
    """A list that is not a mask of this size; its message is a clause about it."""


class _Bits:
    """Reads bits from bytes. Raises BrushError beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, count: int) -> int:
        first, last = self._at // 8, (self._at + count + 7) // 8
        if last > len(self._data):
            raise BrushError("breaks off")
        held = int.from_bytes(self._data[first:last], "big") >> (last * 8 - self._at - count)
        self._at += count
        return held & ((1 << count) - 1)


def read_brush(given: Sequence[object], width: int, height: int, max_pixels: int) -> Bitmap:
    """given: the member `rle`. Returns (H, W) bool, in which True belongs to the region. Raises BrushError."""
    if width * height > max_pixels:
        raise BrushError(f"is of an image with more than {max_pixels} pixels")
    if len(given) > MOST_BYTES or not all(type(each) is int and 0 <= each < 256 for each in given):
        raise BrushError("is not a list of bytes, 0 to 255")
    bits = _Bits(bytes(given))  # type: ignore[arg-type]  # they are whole numbers, as was just seen
    length, value_bits = bits.read(32), bits.read(5) + 1
    if length != width * height * CHANNELS or value_bits != VALUE_BITS:
        raise BrushError(f"has {length} values for {width} x {height} pixels of {CHANNELS}")
    sizes = [bits.read(4) + 1 for _ in range(4)]
    alpha, at = np.zeros(width * height, dtype=np.uint8), 0
    while at < length:
        same = bits.read(1)
        until = at + 1 + bits.read(sizes[bits.read(2)])
        if until > length:
            raise BrushError("has more values than pixels")
        pixels = slice(at // CHANNELS, until // CHANNELS)  # those whose last value is among these
        if same:
            alpha[pixels] = bits.read(VALUE_BITS)
        else:
            values = [bits.read(VALUE_BITS) for _ in range(until - at)]
            alpha[pixels] = values[(CHANNELS - 1 - at) % CHANNELS :: CHANNELS]
        at = until
    return alpha.reshape(height, width) >= OPAQUE


def write_brush(bitmap: Bitmap) -> list[int]:
    """The member `rle` of a mask, (H, W) bool: all four values of a pixel are 255 or 0."""
    flat = np.ascontiguousarray(bitmap).reshape(-1)
    edges = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), flat.size]
    bits = [f"{flat.size * CHANNELS:032b}", f"{VALUE_BITS - 1:05b}", *(f"{size - 1:04b}" for size in LENGTH_BITS)]
    for start, end in zip(edges, edges[1:], strict=False):
        bits += _run((end - start) * CHANNELS, 255 if flat[start] else 0)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run(length: int, value: int) -> list[str]:
    """A run of equal values, in as many parts as the longest length makes of it."""
    found, longest = [], 1 << LENGTH_BITS[-1]
    while length:
        part = min(length, longest)
        choice = next(place for place, size in enumerate(LENGTH_BITS) if part <= 1 << size)
        found.append(f"1{choice:02b}{part - 1:0{LENGTH_BITS[choice]}b}{value:0{VALUE_BITS}b}")
        length -= part
    return found
