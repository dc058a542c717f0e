"""Thresholds of words and calibration of a list, from few examples: what the model has already is the prior.

Shapes: R = regions, N = words. Scores and truth are (R, N); truth is 1, 0, or -1 where unknown; a score is NaN where
the model knows nothing about the word. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

# The weight of the model's own threshold, in examples: with so many the fitted one counts as much.
PRIOR_EXAMPLES = 5.0
# Standard deviations of the prior on the logarithm of the scale and on the bias, around the model's own.
SCALE_SPREAD, BIAS_SPREAD = 0.5, 1.0
MAX_FOLDS = 10
_LEAST = 1e-6  # probability whose logarithm is taken
_POOLED_CANDIDATES = 501  # thresholds that are tried for all words together


class Link(Enum):
    """How a probability follows from scale * logit + bias, as the model's tasks have it."""

    SIGMOID = "sigmoid"  # tags and attributes
    SOFTMAX = "softmax"  # categories, of which one is right
    EXP = "exp"  # categories of a model that knows other things too


@dataclass(frozen=True)
class Examples:
    """What the model says of labelled regions, by one list of words. logits, probabilities: (R, N), the model's own.

    truth: (R, N). images: (R,), the place of each region's image: what is fitted on one is not measured on it.
    """

    logits: Floats
    probabilities: Floats
    truth: Labels
    images: NDArray[np.intp]
    link: Link


@dataclass(frozen=True)
class FittedWord:
    """positives, negatives: examples. threshold: on the logit; None where there are not both of them.

    before, after: F1 of "it is this word" by the model's own probability of a half, and by thresholds that were fitted
    without the region's image; None without a threshold.
    """

    positives: int
    negatives: int
    threshold: float | None
    before: float | None
    after: float | None


@dataclass(frozen=True)
class FittedList:
    """words: in the order of the columns. scale, bias: of the calibration. before, after: mean log loss, held out."""

    words: tuple[FittedWord, ...]
    scale: float
    bias: float
    before: float
    after: float


def fit(examples: Examples) -> FittedList:
    """Fit all of a list. There is at least one known score of a known truth."""
    own = own_calibration(examples)
    found, least = calibrate(examples, own), prior_threshold(examples, own)
    held_out = np.full(examples.logits.shape, np.nan)
    thresholds = np.full(examples.logits.shape, np.nan)
    for inside in _folds(examples.images):
        rest = _only(examples, ~inside)
        scale, bias = calibrate(rest, own) if _known(rest).any() else own
        held_out[inside] = probabilities_of(examples.logits[inside], scale, bias, examples.link)
        prior = prior_threshold(rest, own)
        chosen = [fit_threshold(*column, prior) for column in _columns(rest)]
        thresholds[inside] = [prior if each is None else each for each in chosen]
    fitted = [
        _word(column, examples.probabilities[:, place], thresholds[:, place], least)
        for place, column in enumerate(_columns(examples))
    ]
    before = log_loss(examples.probabilities, examples)
    return FittedList(tuple(fitted), *found, before, log_loss(held_out, examples))


def fit_threshold(logits: Floats, truth: Labels, own: float) -> float | None:
    """The threshold with the largest F1, drawn to the model's own the more, the fewer positive examples there are.

    Where several are equally good, the one next to the model's own. None unless there are examples of both kinds.
    """
    known = (truth >= 0) & ~np.isnan(logits)
    scores, right = logits[known], truth[known] == 1
    positives = int(right.sum())
    if positives in (0, len(right)):
        return None
    levels = np.unique(scores)
    middles = (levels[1:] + levels[:-1]) / 2
    candidates = np.concatenate([[levels[0] - 1.0], middles, [own]])
    values = np.array([_f1(scores > each, right) for each in candidates])
    best = candidates[values >= values.max() - 1e-12]
    chosen = float(best[np.abs(best - own).argmin()])
    return (positives * chosen + PRIOR_EXAMPLES * own) / (positives + PRIOR_EXAMPLES)


def own_calibration(examples: Examples) -> tuple[float, float]:
    """(scale, bias) that lead from the model's logits to its own probabilities, by least squares."""
    p = np.clip(examples.probabilities, _LEAST, 1 - _LEAST)
    known = ~np.isnan(examples.logits) & (p == examples.probabilities)
    if known.sum() < 2:
        return 1.0, 0.0
    targets = np.log(p) - (np.log1p(-p) if examples.link is Link.SIGMOID else 0.0)
    logits = examples.logits
    if examples.link is Link.SOFTMAX:  # only differences count
        logits = logits - _row_means(logits, known)
        targets = targets - _row_means(targets, known)
    x, y = logits[known], targets[known]
    spread = float(((x - x.mean()) ** 2).sum())
    scale = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 1.0
    scale = scale if scale > 1e-3 else 1.0
    return scale, 0.0 if examples.link is Link.SOFTMAX else float(y.mean() - scale * x.mean())


def calibrate(examples: Examples, own: tuple[float, float]) -> tuple[float, float]:
    """(scale, bias) of the largest posterior probability, around the model's own, by a search that narrows."""
    known = _known(examples)
    weight = int((known & (examples.truth == 1)).sum() if examples.link is Link.SOFTMAX else known.sum())
    if weight == 0:
        return own

    def loss(step: float, shift: float) -> float:
        found = probabilities_of(examples.logits, own[0] * np.exp(step), own[1] + shift, examples.link)
        prior = (step / SCALE_SPREAD) ** 2 / 2 + (shift / BIAS_SPREAD) ** 2 / 2
        return weight * log_loss(found, examples) + float(prior)

    return _narrowed(loss, own, fixed_bias=examples.link is Link.SOFTMAX)


def _narrowed(
    loss: Callable[[float, float], float], own: tuple[float, float], *, fixed_bias: bool
) -> tuple[float, float]:
    step = shift = 0.0
    reach, steps = 2.0, 9
    for _ in range(6):
        grid = np.linspace(-reach, reach, steps)
        shifts = np.zeros(1) if fixed_bias else grid
        pairs = [(step + a, shift + b) for a in grid for b in shifts]
        step, shift = min(pairs, key=lambda pair: loss(*pair))
        reach /= 3
    return float(own[0] * np.exp(step)), float(own[1] + shift)


def probabilities_of(logits: Floats, scale: float, bias: float, link: Link) -> Floats:
    """(R, N), as the model computes them; NaN where the logit is."""
    values = scale * logits + bias
    if link is Link.SIGMOID:
        return np.asarray(_sigmoid(values))
    if link is Link.EXP:
        return np.minimum(np.exp(np.minimum(values, 0.0)), 1.0)
    shifted = np.exp(values - np.nanmax(values, axis=1, keepdims=True))
    return np.asarray(shifted / np.nansum(shifted, axis=1, keepdims=True))


def log_loss(probabilities: Floats, examples: Examples) -> float:
    """Mean over what is known: of the right word where one is right, else of every word."""
    known = _known(examples)
    p = np.clip(probabilities, _LEAST, 1 - _LEAST)
    right = known & (examples.truth == 1)
    if examples.link is Link.SOFTMAX:
        return -float(np.log(p[right]).mean()) if right.any() else 0.0
    wrong = known & (examples.truth == 0)
    total = np.log(p[right]).sum() + np.log1p(-p[wrong]).sum()
    return -float(total) / max(int(known.sum()), 1)


def prior_threshold(examples: Examples, own: tuple[float, float]) -> float:
    """What thresholds are drawn to: the logit of the model's own probability of a half. In a softmax that depends on
    the other words, so there it is the threshold that is best for all words together."""
    scale, bias = own
    if examples.link is Link.SIGMOID:
        return -bias / scale
    if examples.link is Link.EXP:
        return (float(np.log(0.5)) - bias) / scale
    known = _known(examples)
    if not known.any():
        return 0.0
    scores, right = examples.logits[known], examples.truth[known] == 1
    levels = np.unique(np.quantile(scores, np.linspace(0, 1, _POOLED_CANDIDATES)))
    candidates = np.concatenate([[levels[0] - 1.0], (levels[1:] + levels[:-1]) / 2])
    return float(candidates[np.argmax([_f1(scores > each, right) for each in candidates])])


def sigmoid(logit: float) -> float:
    """The score of a logit."""
    return float(_sigmoid(np.float64(logit)))


def _sigmoid(values: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def _word(column: tuple[Floats, Labels], own_probabilities: Floats, held_out: Floats, prior: float) -> FittedWord:
    logits, truth = column
    known = (truth >= 0) & ~np.isnan(logits)
    right = truth[known] == 1
    threshold = fit_threshold(logits, truth, prior)
    before = after = None
    if threshold is not None:
        before = _f1(own_probabilities[known] >= 0.5, right)
        after = _f1(logits[known] > held_out[known], right)
    return FittedWord(int(right.sum()), int((~right).sum()), threshold, before, after)


def _row_means(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """(R, 1), of what is known."""
    total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    return np.asarray(total / np.maximum(known.sum(axis=1, keepdims=True), 1))


def _f1(said: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    both = int((said & right).sum())
    return 2 * both / max(int(said.sum()) + int(right.sum()), 1)


def _known(examples: Examples) -> NDArray[np.bool_]:
    return (examples.truth >= 0) & ~np.isnan(examples.logits)


def _columns(examples: Examples) -> list[tuple[Floats, Labels]]:
    return [(examples.logits[:, place], examples.truth[:, place]) for place in range(examples.logits.shape[1])]


def _only(examples: Examples, kept: NDArray[np.bool_]) -> Examples:
    return Examples(
        examples.logits[kept], examples.probabilities[kept], examples.truth[kept], examples.images[kept], examples.link
    )


def _folds(images: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """Which regions are held out together: those of one image, or of one in ten where there are more images."""
    _, places = np.unique(images, return_inverse=True)
    count = min(int(places.max()) + 1, MAX_FOLDS)
    for fold in range(count):
        yield places % count == fold
