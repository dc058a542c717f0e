"""Which views a region is looked at with, by how many and by what rule; and how a model that fuses V views sees n.

The rules (paper, sections 3.4 and 4.3): "fixed" spreads the views evenly from the region to the whole image, "random"
draws them, "image prior" takes the best of the perceptual-hash search, "task prior" those that the model's
configuration names for the task, then the paper's.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.geometry import Box
from dynrefer.model.types import Corners, Task
from dynrefer.model.views import STEPS, GreyImage, greedy_picks, search_candidates
from dynrefer.workbench.evaluation.inference import Answers, Chooser, RegionPredictor, Regions, Views

MOST_VIEWS = 4
# Beyond what a configuration names: the paper's curves for two views, figure 4.
_NEXT_BEST = {Task.CAPTION: (0.4, 0.5, 0.3, 0.2), Task.TAGS: (0.4, 0.5, 0.3, 0.2)}
_NEXT_BEST_NEAR = (0.1, 0.2, 0.3, 0.4)


class Policy(StrEnum):
    """How the views beside t = 0 are chosen."""

    FIXED = "fixed"
    RANDOM = "random"
    IMAGE_PRIOR = "image prior"
    TASK_PRIOR = "task prior"


def choose(policy: Policy, count: int, task: Task | None = None) -> Chooser:
    """The function that gives a region its `count` t values, the first 0; task: for the task prior only."""

    def fixed(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
        return (0.0, *(round(step / (count - 1), 1) for step in range(1, count)))

    def random(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
        return (0.0, *np.random.default_rng((row, count)).choice(STEPS, count - 1, replace=False).tolist())

    def image_prior(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
        grey = GreyImage(image)
        candidates = search_candidates(grey, Box(*box).clip(grey.size))
        picks = greedy_picks([candidate.gain for candidate in candidates], count - 1)
        return (0.0, *(candidates[pick].t for pick in picks))

    def task_prior(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
        assert task is not None
        named = predictor.card.task_priors[task.value]
        return tuple(dict.fromkeys((*named, *_NEXT_BEST.get(task, _NEXT_BEST_NEAR))))[:count]

    rules = {
        Policy.FIXED: fixed,
        Policy.RANDOM: random,
        Policy.IMAGE_PRIOR: image_prior,
        Policy.TASK_PRIOR: task_prior,
    }
    return rules[policy] if count > 1 else alone


def alone(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
    """The region itself and nothing else: one view."""
    return (0.0,)


def arrangements(views: Views, slots: int) -> tuple[Views, ...]:
    """How a model with so many slots is shown the views, in one pass or several.

    Fewer views than slots: the last is repeated. More: every set of the others that fits beside t = 0 is a pass, and
    `fused` joins their answers.
    """
    if len(views) <= slots:
        return ((*views, *views[-1:] * (slots - len(views))),)
    return tuple((views[0], *rest) for rest in itertools.combinations(views[1:], slots - 1))


def passes(chooser: Chooser, count: int, slots: int) -> list[Chooser]:
    """The passes of `arrangements` for every region, each a `Chooser` of so many t values as the model has slots."""
    known: dict[int, tuple[Views, ...]] = {}

    def arranged(place: int) -> Chooser:
        def view(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
            if row not in known:
                known[row] = arrangements(chooser(predictor, image, box, row), slots)
            return known[row][place]

        return view

    return [arranged(place) for place in range(len(arrangements((0.0,) * count, slots)))]


def fused(passed: Sequence[Answers], regions: Regions) -> Answers:
    """One answer of several passes: the mean of the scores, and the caption whose words were likeliest."""
    first = passed[0]
    if len(passed) == 1:
        return first
    answers = Answers(tuple(first.scores), regions)
    for task in first.scores:
        answers.scores[task] = np.mean([each.scores[task] for each in passed], axis=0)
        answers.probabilities[task] = np.mean([each.probabilities[task] for each in passed], axis=0)
    for row in range(len(first.captions)):
        best = max(passed, key=lambda each: each.logprobs[row])
        answers.captions.append(best.captions[row])
        answers.caption_scores.append(best.caption_scores[row])
        answers.logprobs.append(best.logprobs[row])
    return answers
