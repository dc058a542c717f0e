"""View policies: rules that choose n views of a region; and how a model that fuses V views is run with n.

The policies (paper, sections 3.4 and 4.3): "fixed" spreads the views evenly from the region to the whole image,
"random" draws them, "image prior" takes the best of the perceptual-hash search, "task prior" those that the model's
configuration names for the task, followed by the paper's.
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
from dynrefer.workbench.data.regions import Regions
from dynrefer.workbench.evaluation.inference import QueryResults, RegionPredictor, ViewChooser, Views

MOST_VIEWS = 4
# Where more views are needed than the configuration names: the best in the paper's curves for two views, figure 4.
_NEXT_BEST = {Task.CAPTION: (0.4, 0.5, 0.3, 0.2), Task.TAGS: (0.4, 0.5, 0.3, 0.2)}
_NEXT_BEST_NEAR = (0.1, 0.2, 0.3, 0.4)


class Policy(StrEnum):
    """How the views beside t = 0 are chosen."""

    FIXED = "fixed"
    RANDOM = "random"
    IMAGE_PRIOR = "image prior"
    TASK_PRIOR = "task prior"


def choose(policy: Policy, count: int, task: Task | None = None) -> ViewChooser:
    """The function that returns a region's `count` t values, the first of them 0. task: for the task prior only."""

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
    return rules[policy] if count > 1 else region_only


def region_only(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
    """One view: the region itself, t = 0."""
    return (0.0,)


def arrangements(views: Views, slots: int) -> tuple[Views, ...]:
    """The views of each pass of a model that fuses `slots` views.

    With fewer views than slots the last is repeated. With more, t = 0 and each combination of slots - 1 others make a
    pass; `fuse_results` joins them.
    """
    if len(views) <= slots:
        return ((*views, *views[-1:] * (slots - len(views))),)
    return tuple((views[0], *rest) for rest in itertools.combinations(views[1:], slots - 1))


def passes(chooser: ViewChooser, count: int, slots: int) -> list[ViewChooser]:
    """One `ViewChooser` per pass of `arrangements`; each returns `slots` t values."""
    known: dict[int, tuple[Views, ...]] = {}

    def arranged(place: int) -> ViewChooser:
        def view(predictor: RegionPredictor, image: NDArray[np.uint8], box: Corners, row: int) -> Views:
            if row not in known:
                known[row] = arrangements(chooser(predictor, image, box, row), slots)
            return known[row][place]

        return view

    return [arranged(place) for place in range(len(arrangements((0.0,) * count, slots)))]


def fuse_results(passed: Sequence[QueryResults], regions: Regions) -> QueryResults:
    """Join several passes: mean scores and probabilities, and the caption with the highest mean log-probability."""
    first = passed[0]
    if len(passed) == 1:
        return first
    joined = QueryResults(tuple(first.scores), regions)
    for task in first.scores:
        joined.scores[task] = np.mean([each.scores[task] for each in passed], axis=0)
        joined.probabilities[task] = np.mean([each.probabilities[task] for each in passed], axis=0)
    for row in range(len(first.captions)):
        best = max(passed, key=lambda each: each.logprobs[row])
        joined.captions.append(best.captions[row])
        joined.caption_scores.append(best.caption_scores[row])
        joined.logprobs.append(best.logprobs[row])
    return joined
