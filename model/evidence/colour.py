"""The colour of a photographed object, said only where it can be trusted. numpy and Pillow, no torch.

Where the object is: the class activation map (https://arxiv.org/abs/1512.04150) of the name that is said, sharpened by
the pixels. Colours that are frequent under the map and rare at the crop's rim belong to the object, as in GrabCut
(https://doi.org/10.1145/1015706.1015720), but with histograms in place of mixtures and a blur in place of a graph cut.

What colour it has: every pixel gets a probability for each name from a logistic regression on its place in OKLab
(https://bottosson.github.io/posts/oklab/) and on the crop's light: its brightest pixels, so that white in the shade
stays white, and its mean colour, so that a cast is discounted. Three shares of each name decide: at the map's peak, in
the whole object, and at the rim. `workbench/evidence/colour.py` fits the numbers.

Shapes: P = 784 cells of 28 x 28, row by row; C = 12 colours; F = 22 properties of a cell's colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.settings import read_list, read_number, read_numbers, read_object

COLOURS = (
    *("red", "orange", "yellow", "green", "blue", "purple"),
    *("pink", "brown", "black", "white", "gray", "beige"),
)
PROPERTIES = 22  # F

Floats: TypeAlias = NDArray[np.float32]

_CELLS = 28  # per side: enough for a mask, and a cell's mean hides noise and JPEG's blocks
_MAP = 7  # the activation map's side
_BINS = (7, 7, 7)  # of a histogram over OKLab: lightness, and steps of 0.06 in either direction of chroma
_CHROMA_STEP = 0.06
_CHROMA_UNIT = 4.0  # chroma times this is about as large as lightness
_ROUNDS = 2  # of telling the object from its surroundings
_COLOUR_WEIGHT, _MAP_WEIGHT = 2.0, 1.5  # of the two log odds that a cell belongs to the object
_RARE = 0.01  # added to frequencies, so that a colour seen once proves little
_SHARE = 0.02  # added to shares before their logarithm
_TIE = 0.01  # added to shares before they are compared
_BRIGHT = 0.95  # quantile of lightness that stands for the light on the scene
_DARKEST_LIGHT = 0.3  # a scene darker than this is dark, not badly exposed

_TO_CONES = np.array(
    [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.68069955, 0.10739696], [0.08830246, 0.28171884, 0.6299787]],
    dtype=np.float32,
)
_TO_OKLAB = np.array(
    [[0.21045426, 0.7936178, -0.00407205], [1.9779985, -2.4285922, 0.4505937], [0.02590404, 0.78277177, -0.80867577]],
    dtype=np.float32,
)


@dataclass(frozen=True, slots=True)
class ColourParameters:
    """The numbers of the measure, fitted by `workbench/evidence/colour.py`.

    naming: (F, C), the logistic regression from a cell's properties to names. peak, whole, rim: weights of the three
    log shares; the rim's counts against a name. bias: (C,), of the names. none: the score of "no colour is the main
    one". scale, lead, offset: turn log odds into those that hold (`calibrate`). threshold: the probability from which
    on a colour is said, between 0 and 1.
    """

    naming: tuple[tuple[float, ...], ...]
    peak: float
    whole: float
    rim: float
    bias: tuple[float, ...]
    none: float
    scale: float
    lead: float
    offset: float
    threshold: float

    def __post_init__(self) -> None:
        if len(self.naming) != PROPERTIES or any(len(row) != len(COLOURS) for row in self.naming):
            raise ConfigError(f"colour.naming must hold {PROPERTIES} rows of {len(COLOURS)} numbers.")
        if len(self.bias) != len(COLOURS):
            raise ConfigError(f"colour.bias must hold {len(COLOURS)} numbers.")
        if not 0 < self.threshold < 1:
            raise ConfigError("colour.threshold must be between 0 and 1.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> ColourParameters:
        """From a section of a configuration. Raises `ConfigError` for a key that is missing, unknown or not numbers."""
        expected = [field.name for field in fields(cls)]
        for key in read_object(values, "colour"):
            if key not in expected:
                raise ConfigError(f"unknown key {key!r} in colour; it may hold {', '.join(expected)}.")
        for key in expected:
            if key not in values:
                raise ConfigError(f"colour has no {key!r}.")
        scalars = {key: read_number(values[key], f"colour.{key}") for key in expected if key not in ("naming", "bias")}
        naming = tuple(read_numbers(row, "colour.naming") for row in read_list(values["naming"], "colour.naming"))
        return cls(naming=naming, bias=read_numbers(values["bias"], "colour.bias"), **scalars)


@dataclass(frozen=True, slots=True)
class ColourReading:
    """probabilities: (C,) float32, in the order of `COLOURS`: that a person would accept this name for the main colour.

    They need not add up to 1: some objects have two acceptable names, some none. said: the most probable name where
    that is trusted, else None.
    """

    probabilities: Floats
    said: str | None


class CellShares(NamedTuple):
    """Where to look: weights of the cells, each (P,) float32 with sum 1.

    peak: the object where the activation map is highest. whole: all of it. rim: the crop's edge, without the object.
    """

    peak: Floats
    whole: Floats
    rim: Floats


def activation_map(feature_map: Floats, class_weights: Floats) -> Floats:
    """Where the tower sees what it names.

    feature_map: (1280, 7, 7) float32, the tower's last. class_weights: (1280,) float32, the classifier's row of the
    name's classes (their mean, weighted by probability) less the mean row. Returns (7, 7) float32, >= 0.
    """
    channels = len(class_weights)
    seen = class_weights @ feature_map.reshape(channels, -1)
    return np.asarray(np.maximum(seen, 0).reshape(feature_map.shape[1:]), dtype=np.float32)


def read_colour(crop: NDArray[np.uint8], activation: Floats, parameters: ColourParameters) -> ColourReading:
    """The colour of the object that fills a crop.

    crop: (3, 224, 224) uint8 RGB, the region's tight box squeezed to a square. activation: (7, 7) float32, >= 0, of
    the name that is said (`activation_map`); zeros where nothing is known.
    """
    probabilities = calibrate(compete(crop, activation, parameters), parameters)
    best = int(probabilities.argmax())
    return ColourReading(probabilities, COLOURS[best] if probabilities[best] >= parameters.threshold else None)


def compete(crop: NDArray[np.uint8], activation: Floats, parameters: ColourParameters) -> NDArray[np.float64]:
    """The names' shares of a softmax over them and "none", (C,); they add up to less than 1."""
    cells, samples = cell_colours(crop)
    names = _name_cells(cell_properties(cells, samples), parameters)
    shares = np.stack(find_object(cells, activation)) @ names  # (3, C)
    peak, whole, rim = np.log(shares + np.float32(_SHARE))
    scores = np.empty(len(COLOURS) + 1)
    scores[:-1] = parameters.peak * peak + parameters.whole * whole - parameters.rim * rim + parameters.bias
    scores[-1] = parameters.none
    return _softmax(scores)[:-1]


def calibrate(shares: NDArray[np.float64], parameters: ColourParameters) -> Floats:
    """shares: (C,), as `compete` returns them. Returns probabilities, (C,) float32.

    Two names that a person would accept halve each other's share, so a share says more with its lead beside it.
    """
    odds = parameters.scale * log_odds(shares) + parameters.lead * leads(shares) + parameters.offset
    return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float32)


def log_odds(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of shares between 0 and 1, of any shape."""
    clipped = np.clip(shares, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def leads(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each name's share is ahead of the best other one, in logarithms. shares: (C,), returned likewise."""
    second, best = np.partition(shares, -2)[-2:]
    others = np.where(np.arange(len(shares)) == shares.argmax(), second, best)
    return np.asarray(np.log((shares + _TIE) / (others + _TIE)))


def cell_colours(crop: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """The colours of a crop in OKLab: lightness 0 to 1, a, b.

    crop: (3, 224, 224) uint8 RGB. Returns the cells' means and the colour of one quarter of each cell, both (3, P)
    float32. The means tell where the object is; names come from the quarters, for the mean of black and white stripes
    is gray.
    """
    factor = crop.shape[1] // (2 * _CELLS)
    halves = np.stack([np.asarray(Image.fromarray(plane).reduce(factor)) for plane in crop]).astype(np.uint16)
    quarters = [halves[:, down::2, across::2].reshape(3, -1) for down in (0, 1) for across in (0, 1)]
    means = (quarters[0] + quarters[1] + quarters[2] + quarters[3] + np.uint16(2)) // np.uint16(4)
    return _oklab(means), _oklab(quarters[0])


def find_object(lab: Floats, activation: Floats) -> CellShares:
    """Tell the object's cells from the others'. lab: (3, P). activation: (7, 7), >= 0."""
    seen = enlarge(activation)
    highest = float(seen.max())
    seen = seen / highest if highest > 0 else np.ones_like(seen)
    bins = _bins(lab)
    count = math.prod(_BINS)
    odds = np.float32(_MAP_WEIGHT) * np.log((seen + 0.08) / (1.25 - seen))
    inside: Floats = seen * _INWARD
    outside: Floats = _OUTWARD * (1 - 0.8 * seen)
    for _ in range(_ROUNDS):
        within, without = np.bincount(bins, inside, count), np.bincount(bins, outside, count)
        ratio = (within / within.sum() + _RARE) / (without / without.sum() + _RARE)
        evidence = (_COLOUR_WEIGHT * np.log(ratio)).astype(np.float32)[bins]
        belongs = _blur(1 / (1 + np.exp(-(evidence + odds))))
        inside, outside = belongs * _INWARD, (1 - belongs) * (0.3 + _OUTWARD)
    peak, rim = belongs * belongs * seen + 1e-6, _RIM * (1 - belongs) + 1e-4
    return CellShares(*((part / part.sum()).astype(np.float32) for part in (peak, belongs, rim)))


def enlarge(activation: Floats) -> Floats:
    """activation: (7, 7). Returns its bilinear interpolation at the cells, (P,) float32."""
    return np.asarray((_ENLARGE @ activation @ _ENLARGE.T).reshape(-1), dtype=np.float32)


def cell_properties(cells: Floats, samples: Floats) -> Floats:
    """What the names of the colours `samples` are read from, (F, P) float32. cells: of the same crop; both (3, P)."""
    cast = cells.mean(axis=1) * np.float32(_CHROMA_UNIT)
    return colour_properties(samples, brightest(cells[0]), (float(cast[1]), float(cast[2])))


def colour_properties(lab: Floats, light: float, cast: tuple[float, float]) -> Floats:
    """The same for colours (3, P) seen under a light of that lightness and with that mean a and b, times 4."""
    lightness, a, b = lab[0], lab[1] * np.float32(_CHROMA_UNIT), lab[2] * np.float32(_CHROMA_UNIT)
    light = max(light, _DARKEST_LIGHT)
    relative = lightness / np.float32(light)
    chroma = np.sqrt(a * a + b * b)
    saturation = chroma / (chroma + np.float32(0.12))
    safe = np.maximum(chroma, np.float32(1e-6))
    cosine, sine = a / safe, b / safe
    cosine2, sine2 = cosine * cosine - sine * sine, 2 * cosine * sine
    out = np.empty((PROPERTIES, lab.shape[1]), dtype=np.float32)
    out[0] = 1
    out[1], out[2], out[3], out[4] = lightness, lightness * lightness, relative, relative * relative
    out[5], out[6], out[7], out[8] = a, b, a * lightness, b * lightness
    out[9], out[10], out[11], out[12], out[13] = a * a, b * b, a * b, chroma, saturation
    out[14], out[15] = saturation * cosine, saturation * sine
    out[16], out[17] = saturation * cosine2, saturation * sine2
    out[18] = saturation * (cosine2 * cosine - sine2 * sine)
    out[19] = saturation * (sine2 * cosine + cosine2 * sine)
    out[20], out[21] = cast
    return out


def brightest(lightness: Floats) -> float:
    """The lightness that only a twentieth of the cells exceed."""
    place = int(_BRIGHT * len(lightness))
    return float(np.partition(lightness, place)[place])


def _name_cells(properties: Floats, parameters: ColourParameters) -> Floats:
    """Probabilities of the names per cell, (P, C) float32. properties: (F, P)."""
    logits = properties.T @ np.asarray(parameters.naming, dtype=np.float32)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _oklab(values: NDArray[np.uint16]) -> Floats:
    """values: (3, P), sRGB of 0 to 255. Returns (3, P) float32."""
    return to_oklab(_LINEAR[values])


def to_oklab(linear: Floats) -> Floats:
    """linear: (3, P) float32, linear RGB of 0 to 1. Returns lightness, a, b, (3, P) float32."""
    return np.asarray(_TO_OKLAB @ np.cbrt(_TO_CONES @ linear), dtype=np.float32)


def _bins(lab: Floats) -> NDArray[np.int64]:
    """The cells' places in a histogram over OKLab, (P,)."""
    levels, across, down = _BINS
    place: NDArray[np.int64] = np.minimum((lab[0] * levels).astype(np.int64), levels - 1)
    for axis, steps in ((1, across), (2, down)):
        middle = steps // 2
        step = np.rint(lab[axis] / np.float32(_CHROMA_STEP)).astype(np.int64)
        place = place * steps + np.clip(step + middle, 0, steps - 1)
    return place


def _blur(cells: Floats) -> Floats:
    """The mean over 3 x 3 cells; the edge is repeated."""
    square = np.pad(cells.reshape(_CELLS, _CELLS), 1, mode="edge")
    rows = square[:-2] + square[1:-1] + square[2:]
    return np.asarray(((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9).reshape(-1), dtype=np.float32)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def _enlarging() -> Floats:
    """Bilinear interpolation from 7 to 28 places, (28, 7)."""
    place = np.clip((np.arange(_CELLS) + 0.5) * _MAP / _CELLS - 0.5, 0, _MAP - 1)
    first = np.minimum(place.astype(int), _MAP - 2)
    out = np.zeros((_CELLS, _MAP), dtype=np.float32)
    out[np.arange(_CELLS), first] = 1 - (place - first)
    out[np.arange(_CELLS), first + 1] = place - first
    return out


def _surroundings() -> tuple[Floats, Floats, Floats]:
    """Before any pixel is seen, each (P,): weights of the object, of what is around it, and the outermost cells."""
    place = (np.arange(_CELLS) + 0.5) / _CELLS * 2 - 1
    down, across = np.meshgrid(place, place, indexing="ij")
    inward = np.minimum(1 - abs(across), 1 - abs(down)).reshape(-1)  # 0 at the edge, 1 in the middle
    rim = (inward < 3 / _CELLS).astype(np.float32)
    corners = (across * down).reshape(-1) ** 2  # a tight box touches its object in the middle of its sides
    return np.minimum(1, inward * 2 + 0.3).astype(np.float32), (rim + corners).astype(np.float32), rim


def _linear_light() -> Floats:
    """sRGB's 256 values in linear light, (256,)."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


_ENLARGE = _enlarging()
_INWARD, _OUTWARD, _RIM = _surroundings()
_LINEAR = _linear_light()
