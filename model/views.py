"""Which crops of an image the network looks at: nested views, perceptual hash, greedy search, task priors.

Paper: sections 3.2 (nested views) and 3.4 (selection at inference). The hash reproduces the bits of the
released code, which computes them with OpenCV, without needing it. No torch here.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from imagehash import ImageHash
from numpy.typing import NDArray

from dynrefer.model.errors import ConfigError, ViewsError
from dynrefer.model.geometry import Box, ImageSize, boxes_towards, integer_crops
from dynrefer.model.types import View, ViewCandidate, ViewPlan, ViewPolicy

STEPS: tuple[float, ...] = tuple(step / 10 for step in range(1, 11))  # t of the views beside t = 0

HASH_SIDE = 224  # a crop is resized to this square before the cosine transform
HASH_BANDS = 8  # lowest frequencies kept per axis: 8 x 8 = 64 bits
GREY_BITS = 15  # OpenCV's fixed-point grey: weights below in units of 2 ** -15
GREY_WEIGHTS = np.array([9798, 19235, 3735], dtype=np.float32) / np.float32(1 << GREY_BITS)
# From this size on, the hash gathers the sampled pixels of each crop; below, one matrix product over the whole image
# serves all crops and is faster. Its weights grow with the sides, so very long images are gathered too.
GATHER_FROM_PIXELS, GATHER_FROM_SIDE = 1 << 20, 1 << 12
PICK_FROM_SIDE = 1 << 14  # wider crops: each sample by itself; in others it is faster to copy whole rows first
BLOCK_PIXELS = 1 << 15  # grey conversion: a block of floats that stays in the cache
# A sample that is gathered in colour costs about three times what converting a pixel in its turn does. So the whole
# image is converted once the samples come to a third of its pixels: at most about twice the least work.
SAMPLES_TO_CONVERT_ALL = 1 / 3


def _cosines() -> NDArray[np.float64]:
    """Build the first rows of the orthonormal DCT-II, (HASH_BANDS, HASH_SIDE)."""
    bands, positions = np.arange(HASH_BANDS)[:, None], np.arange(HASH_SIDE)
    rows: NDArray[np.float64] = np.cos(np.pi / HASH_SIDE * (positions + 0.5) * bands)
    rows *= np.sqrt(2 / HASH_SIDE)
    rows[0] /= np.sqrt(2)
    return rows


COSINES = _cosines()


class GreyImage:
    """One image in grey, shared by the hashes of all its regions. Of a large one with few regions, the sampled pixels
    alone are converted; else all of them, once, on first use.

    rgb: (H, W, 3) uint8, upright. Not meant for use by two threads at once.
    """

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        """Keep the image; nothing is computed yet."""
        self._rgb = rgb
        self.size: ImageSize = (rgb.shape[1], rgb.shape[0])
        self._samples = 0  # of all crops so far, each counted whole
        self._gathered_crops: dict[tuple[int, ...], NDArray[np.float32]] = {}

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W) uint8, rounded half up as OpenCV's integer grey."""
        width, height = self.size
        grey = np.empty((height, width), dtype=np.uint8)
        rows = max(1, BLOCK_PIXELS // width)
        for top in range(0, height, rows):
            grey[top : top + rows] = _grey_plus_half(self._rgb[top : top + rows])
        return grey

    @cached_property
    def floats(self) -> NDArray[np.float32]:
        """The same as (H, W) float32."""
        return self.pixels.astype(np.float32)

    def low_frequencies(self, crops: NDArray[np.int64]) -> NDArray[np.float32]:
        """Transform crops: (N, 4) integer corners -> (N, 8, 8) float32, the lowest DCT coefficients.

        Equal to a bilinear resize to 224 x 224 (OpenCV's: half-pixel centres, no antialiasing, edges
        repeated) and an orthonormal DCT-II. Resize and cosines of an axis are linear, so they are folded
        into one weight matrix, and 224 x 224 pixels are never formed.
        """
        width, height = self.size
        if width * height >= GATHER_FROM_PIXELS or max(self.size) >= GATHER_FROM_SIDE:
            self._samples += len(crops) * (2 * HASH_SIDE) ** 2
            gathered = [self._gathered(corners) for corners in map(tuple, crops.tolist())]
            return np.array(gathered, dtype=np.float32).reshape(-1, HASH_BANDS, HASH_BANDS)
        columns, across = _folded_weights(crops[:, 2] - crops[:, 0])
        rows, down = _folded_weights(crops[:, 3] - crops[:, 1])
        down = _spread(rows + crops[:, 1:2], down, height)
        across = _spread(columns + crops[:, 0:1], across, width)
        strips = np.matmul(down.reshape(-1, height), self.floats).reshape(len(crops), HASH_BANDS, width)
        coefficients: NDArray[np.float32] = np.matmul(strips, across.transpose(0, 2, 1))
        return coefficients

    def _gathered(self, corners: tuple[int, ...]) -> NDArray[np.float32]:
        """Transform one crop from its sampled rows and columns alone: (8, 8) float32. A crop that several regions
        share, such as the whole image, is transformed once."""
        if corners in self._gathered_crops:
            return self._gathered_crops[corners]
        x1, y1, x2, y2 = corners
        (columns, rows), (across, down) = _folded_weights(np.array([x2 - x1, y2 - y1]))
        strips = np.zeros((HASH_BANDS, len(columns)), dtype=np.float32)
        for half in (slice(0, HASH_SIDE), slice(HASH_SIDE, None)):  # the floats of a half stay in the cache
            strips += down[:, half] @ self._sampled(corners, rows[half], columns)
        coefficients: NDArray[np.float32] = strips @ across.T
        self._gathered_crops[corners] = coefficients
        return coefficients

    def _sampled(
        self, corners: tuple[int, ...], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The pixels of a crop at rows (R,) and columns (C,) of it: (R, C) float32, with the numbers of `pixels`."""
        x1, y1, x2, y2 = corners
        width, height = self.size
        few = self._samples < SAMPLES_TO_CONVERT_ALL * width * height and "pixels" not in vars(self)
        if few and self._rgb.flags.c_contiguous:
            places = (rows + y1)[:, None] * width + (columns + x1)
            colours = self._rgb.view("V3").reshape(-1).take(places)  # a pixel as one value of three bytes
            return np.floor(_grey_plus_half(colours.view(np.uint8).reshape(*places.shape, 3)))
        crop = self.pixels[y1:y2, x1:x2]
        if y2 - y1 < HASH_SIDE:  # in the order that keeps what is copied between small
            sampled = crop[:, columns][rows]
        elif x2 - x1 < PICK_FROM_SIDE:
            sampled = crop[rows].take(columns, axis=1)
        else:
            sampled = crop[rows[:, None], columns]
        return sampled.astype(np.float32)

    def hash_bits(self, crops: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Hash crops: (N, 4) integer corners -> (N, 64) bits, coefficient above the mean of the 64."""
        coefficients = self.low_frequencies(crops).reshape(len(crops), -1)
        bits: NDArray[np.bool_] = coefficients > coefficients.mean(axis=1, keepdims=True)
        return bits

    def hashes(self, crops: NDArray[np.int64]) -> list[ImageHash]:
        """The same as ImageHash objects, which know their Hamming distance and their hexadecimal form.

        Only the objects are the library's: its own perceptual hash has other bits (32 x 32, median).
        """
        return [ImageHash(bits.reshape(HASH_BANDS, HASH_BANDS)) for bits in self.hash_bits(crops)]


def _grey_plus_half(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey plus a half, (..., 3) uint8 -> (...) float32: its whole part is OpenCV's integer grey.

    Exact in float32: a sum of weights in 2 ** -15 times 8-bit values, plus a half, needs 23 bits.
    """
    grey: NDArray[np.float32] = rgb.astype(np.float32) @ GREY_WEIGHTS
    grey += np.float32(0.5)
    return grey


def _folded_weights(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Fold resize and cosines of one axis of crops of so many pixels, (N,).

    Returns the sampled pixels, (N, 2 * 224) int64 from the crop's edge, and their weights, (N, 8, 2 * 224)
    float32: a crop's column of pixels times the weights is that column resized and transformed.
    """
    lengths = lengths[:, None]
    centres = (np.arange(HASH_SIDE) + 0.5) * (lengths / HASH_SIDE) - 0.5
    centres = np.clip(centres.astype(np.float32), 0, lengths - 1)  # float32, as OpenCV places them
    left = centres.astype(np.int64)
    fraction = (centres - left)[:, None, :]
    right = np.minimum(left + 1, lengths - 1)
    samples = np.concatenate([left, right], axis=1)
    weights = np.concatenate([COSINES * (1 - fraction), COSINES * fraction], axis=2)
    return samples, weights.astype(np.float32)


def _spread(samples: NDArray[np.int64], weights: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Sum the weights of each pixel of the axis: (N, 8, S) at samples (N, S) -> (N, 8, length)."""
    count = len(samples) * HASH_BANDS
    rows = np.arange(count).reshape(len(samples), HASH_BANDS, 1)
    places = rows * length + samples[:, None, :]
    spread = np.bincount(places.ravel(), weights.ravel(), minlength=count * length)
    return spread.reshape(len(samples), HASH_BANDS, length).astype(np.float32)


def nested_views(box: Box, image_size: ImageSize, steps: Sequence[float] = STEPS) -> tuple[View, ...]:
    """List the region itself (t = 0) and its views at `steps`, in their order; boxes as in `Box.towards`."""
    ts = (0.0, *steps)
    boxes = boxes_towards(box.corners, image_size, ts).tolist()
    return tuple(View(t, (x1, y1, x2, y2)) for t, (x1, y1, x2, y2) in zip(ts, boxes, strict=True))


def greedy_picks(gains: Sequence[float], count: int) -> list[int]:
    """Pick the best gain `count` times, setting a picked one to 0: indices, best first.

    Ties go to the first, the smallest t. Once all are 0 the first is picked again, and again.
    """
    left = list(gains)
    picks: list[int] = []
    for _ in range(count):
        best = left.index(max(left))
        left[best] = 0.0
        picks.append(best)
    return picks


def search_candidates(grey: GreyImage, box: Box, steps: Sequence[float] = STEPS) -> tuple[ViewCandidate, ...]:
    """Measure every candidate view: Hamming distance of its hash to that of t = 0, and distance / t (0 at t = 0)."""
    views = nested_views(box, grey.size, steps)
    region, *others = grey.hashes(integer_crops(np.array([view.box for view in views], dtype=np.float32), grey.size))
    candidates = []
    for view, other in zip(views[1:], others, strict=True):
        distance = int(region - other)  # not NumPy's
        gain = distance / view.t if view.t else 0.0
        candidates.append(ViewCandidate(view.t, view.box, distance, gain, _hexadecimal(other)))
    return tuple(candidates)


def _hexadecimal(of: ImageHash) -> str:
    """What str() of it is, without its detour by a text of ones and zeros, which costs as much as the crop's hash."""
    return np.packbits(of.hash).tobytes().hex()


def plan_views(
    image: GreyImage | NDArray[np.uint8],
    box: Box,
    *,
    num_views: int,
    task_prior: Sequence[float] | None = None,
    views: Sequence[float] | None = None,
) -> ViewPlan:
    """Choose the views of a region: the given ones, else the task's, else by the image.

    image: (H, W, 3) uint8 upright RGB, or the `GreyImage` made of it, which several regions can share.
    task_prior, views: t values, `num_views` of them, the first 0. With neither, the hash search chooses,
    and the plan keeps its candidates.

    Raises:
        BoxError: the box lies outside the image.
        ViewsError: `views` do not fit the model.
        ConfigError: `task_prior` does not.
    """
    grey = image if isinstance(image, GreyImage) else GreyImage(image)
    box = box.clip(grey.size)
    if views is not None:
        check_views(views, num_views)
        return ViewPlan(nested_views(box, grey.size, views[1:]), ViewPolicy.FIXED)
    if task_prior is not None:
        if fault := _fault_of(task_prior, num_views):
            raise ConfigError(f"The task prior {list(task_prior)} does not fit the model: it {fault}.")
        return ViewPlan(nested_views(box, grey.size, task_prior[1:]), ViewPolicy.TASK_PRIOR)
    region = nested_views(box, grey.size, ())
    if num_views == 1:
        return ViewPlan(region, ViewPolicy.IMAGE_PRIOR)
    candidates = search_candidates(grey, box)
    picks = greedy_picks([candidate.gain for candidate in candidates], num_views - 1)
    chosen = tuple(View(candidates[pick].t, candidates[pick].box) for pick in picks)
    return ViewPlan(region + chosen, ViewPolicy.IMAGE_PRIOR, candidates)


def check_views(views: Sequence[float], num_views: int) -> None:
    """Raises ViewsError unless these t values are views that a model with so many can take."""
    if fault := _fault_of(views, num_views):
        raise ViewsError(f"The views {fault}.")


def _fault_of(ts: Sequence[float], num_views: int) -> str:
    """What is wrong with the t values, as the end of a sentence; empty if they are valid."""
    if len(ts) != num_views:
        return f"must be {num_views} values of t, not {len(ts)}"
    if not all(0.0 <= t <= 1.0 for t in ts):
        return "must have every t between 0 and 1"
    if ts[0] != 0.0:
        return f"must begin with t = 0, the region itself, not {ts[0]:g}"
    return ""
