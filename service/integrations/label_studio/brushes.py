"""Masks as Label Studio writes those of its brush: run lengths of the RGBA values of all pixels, row by row, as a list
of bytes.

The bits, most significant first: the number of values (32 bits), the bits of a value less one (5), and four sizes of
run lengths in bits, each less one (4 bits each). Then runs: one bit whether all values are the same, two which of the
four sizes the run's length has, the length less one, and the value, or each of the values. What counts is the alpha
value.

They are read without a bitmap: what that costs follows from the list, and not from the size that a result says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import Corners, RegionMask, compressed_runs

Bitmap = NDArray[np.bool_]
Numbers = NDArray[np.int64]

CHANNELS = 4
OPAQUE = 128  # from this alpha on, a pixel belongs to the region
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)  # as Label Studio's own tools choose them
MOST_BYTES = 1 << 24
MOST_RUNS = 1 << 19  # down the columns: seventy edges in each column of an image that is 7,000 wide


class BrushError(ValueError):
    """A list that is not a mask of this size; its message is a clause about it."""


@dataclass(frozen=True, slots=True)
class Brush:
    """A mask that was read. bounds: in pixels, None where it is empty. num_runs: of the mask."""

    mask: RegionMask
    bounds: Corners | None
    num_runs: int


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


def read_brush(given: Sequence[object], width: int, height: int, max_pixels: int, max_runs: int = MOST_RUNS) -> Brush:
    """given: the member `rle`. max_runs: that the mask may have, down the columns. Raises BrushError."""
    if width * height > max_pixels:
        raise BrushError(f"is of an image with more than {max_pixels} pixels")
    if len(given) > MOST_BYTES or not all(type(each) is int and 0 <= each < 256 for each in given):
        raise BrushError("is not a list of bytes, 0 to 255")
    spans: list[tuple[int, int]] = []
    for start, end in _opaque(_Bits(bytes(given)), width, height):  # type: ignore[arg-type]  # as was just seen
        if spans and spans[-1][1] == start:
            start = spans.pop()[0]
        spans.append((start, end))
    rows, lefts, rights = _by_rows(np.array(spans, dtype=np.int64).reshape(-1, 2), width)
    runs = _down_columns(rows, lefts, rights, width, height, max_runs)
    bounds = None
    if rows.size:
        bounds = float(lefts.min()), float(rows[0]), float(rights.max()), float(rows[-1] + 1)
    return Brush(RegionMask((height, width), compressed_runs(runs)), bounds, len(runs))


def _opaque(bits: _Bits, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Pixels that belong to the region, from the first to before the second, counted row by row. Raises BrushError."""
    length, value_bits = bits.read(32), bits.read(5) + 1
    if length != width * height * CHANNELS or value_bits != VALUE_BITS:
        raise BrushError(f"has {length} values for {width} x {height} pixels of {CHANNELS}")
    sizes = [bits.read(4) + 1 for _ in range(4)]
    at = 0
    while at < length:
        same = bits.read(1)
        until = at + 1 + bits.read(sizes[bits.read(2)])
        if until > length:
            raise BrushError("has more values than pixels")
        first, behind = at // CHANNELS, until // CHANNELS  # those whose last value is among these
        if same:
            if bits.read(VALUE_BITS) >= OPAQUE and first < behind:
                yield first, behind
        else:
            values = [bits.read(VALUE_BITS) for _ in range(until - at)]
            alphas = values[(CHANNELS - 1 - at) % CHANNELS :: CHANNELS]
            yield from ((first + place, first + place + 1) for place, alpha in enumerate(alphas) if alpha >= OPAQUE)
        at = until


def _by_rows(spans: Numbers, width: int) -> tuple[Numbers, Numbers, Numbers]:
    """Spans of pixels counted row by row, (N, 2), cut at the ends of rows: (row, first column, column behind) of each
    part, in order."""
    firsts, lasts = spans[:, 0] // width, (spans[:, 1] - 1) // width
    parts = lasts - firsts + 1
    rows = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts) + np.repeat(firsts, parts)
    lefts = np.maximum(np.repeat(spans[:, 0], parts) - rows * width, 0)
    rights = np.minimum(np.repeat(spans[:, 1], parts) - rows * width, width)
    return rows, lefts, rights


def _down_columns(rows: Numbers, lefts: Numbers, rights: Numbers, width: int, height: int, max_runs: int) -> Numbers:
    """The same as run lengths down the columns, background first. Raises BrushError where they are too many.

    Between a row and the one above it, those columns change that only one of them has; rows of background stand before
    the first and behind the last.
    """
    ends = np.concatenate([lefts, rights])
    changed = np.concatenate([rows, rows, rows + 1, rows + 1])
    order = np.sort(changed * (width + 1) + np.concatenate([ends, ends]))  # of each row an even number
    starts, lengths = order[0::2], order[1::2] - order[0::2]
    if lengths.sum() > max_runs:
        raise BrushError(f"has more than {max_runs} edges along its columns")
    columns = np.repeat(starts % (width + 1) - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    edges = np.sort(columns * height + np.repeat(starts // (width + 1), lengths))
    # A column that ends in the region, and a next one that begins in it, are one run.
    again = np.concatenate([edges[1:] == edges[:-1], [False]]) if edges.size else np.zeros(0, dtype=bool)
    edges = edges[~(again | np.concatenate([[False], again[:-1]]))] if edges.size else edges
    whole = width * height
    edges = edges[edges < whole]
    return np.diff(np.concatenate([[0], edges, [whole]]))


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
