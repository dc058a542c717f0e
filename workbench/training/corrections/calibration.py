"""Calibration and thresholds of a tuned model, from corrected regions that it did not learn from.

What the model had before is the prior (`vocabularies/fitting.py`), so that a handful of regions moves it a little and
many regions decide. Where drawn scenes are rehearsed, other drawn scenes count too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dynrefer.model.types import Task, ViewPolicy
from dynrefer.workbench.data.regions import Regions
from dynrefer.workbench.evaluation.inference import RECOGNITION, QuerySpec, RegionPredictor, run_queries
from dynrefer.workbench.evaluation.metrics.calibration import logits_of
from dynrefer.workbench.evaluation.metrics.recognition import best_threshold
from dynrefer.workbench.training.corrections.words import Judged, Truth
from dynrefer.workbench.vocabularies.fitting import PRIOR_EXAMPLES, Examples, Floats, Link, calibrate, sigmoid

_THRESHOLDS = (Task.TAGS, Task.ATTRIBUTES)
_LEAST = 10  # regions of which something is known; with fewer a task keeps what it had


def recalibrated(
    predictor: RegionPredictor, sets: Sequence[tuple[Regions, Judged]], tasks: Sequence[Task],
    before: Mapping[str, Mapping[str, float]], thresholds: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    """A fragment for `evaluation.tune.apply_tuning`: calibration and thresholds of `tasks`.

    sets: regions with their truth; columns in the order of the regions' names. before, thresholds: those of the
    model's configuration. A task of which the sets say too little is left out.
    """
    scores: dict[Task, list[Floats]] = {task: [] for task in tasks}
    truth: dict[Task, list[Truth]] = {task: [] for task in tasks}
    views: tuple[Any, ...] = (ViewPolicy.IMAGE_PRIOR, ViewPolicy.TASK_PRIOR)  # both share one calibration
    for regions, judged in sets:
        if not len(regions):
            continue
        specs = [QuerySpec(RECOGNITION, policy) for policy in views]
        for found in run_queries(predictor, regions, specs, "calibration"):
            for task in tasks:
                scores[task].append(found.scores[task])
                truth[task].append(judged.of(task))
    fragment: dict[str, Any] = {"calibration": {}, "thresholds": {}}
    for task in tasks:
        if not truth[task]:
            continue
        _fit(task, np.concatenate(scores[task]), np.concatenate(truth[task]), before, thresholds, fragment)
    return fragment


def _fit(
    task: Task, scores: Floats, truth: Truth, before: Mapping[str, Mapping[str, float]],
    thresholds: Mapping[str, float], fragment: dict[str, Any],
) -> None:  # fmt: skip
    """Add a task to the fragment. scores, truth: (R, N); a score that the model did not give is -infinity."""
    answered = np.isfinite(scores).any(axis=1)  # a photograph's names may all be others
    known = (truth >= 0).any(axis=1) & answered
    own = before.get(task.value)
    if known.sum() < 2 * _LEAST or own is None:  # each region is there twice, once for each choice of views
        return
    scores, truth = np.where(np.isfinite(scores[known]), scores[known], np.nan), truth[known]
    logits = scores if task is Task.CATEGORIES else logits_of(scores)
    link = Link.SOFTMAX if task is Task.CATEGORIES else Link.SIGMOID
    examples = Examples(logits, scores, truth, np.arange(len(logits)), link)
    scale, bias = calibrate(examples, (float(own["scale"]), float(own["bias"])))
    fragment["calibration"][task.value] = {"scale": scale, "bias": bias}
    if task in _THRESHOLDS and task.value in thresholds:
        fragment["thresholds"][task.value] = _threshold(scores, truth, thresholds[task.value])


def _threshold(scores: Floats, truth: Truth, before: float) -> float:
    """The one of the best F1, drawn to that of before the more, the fewer positive examples there are."""
    known = (truth >= 0) & ~np.isnan(scores)
    right = truth[known] == 1
    positives = int(right.sum())
    if positives in (0, len(right)):
        return before
    best, _ = best_threshold(scores[known], right)
    own, found = logits_of(np.array([before, best]))
    return round(sigmoid(float((positives * found + PRIOR_EXAMPLES * own) / (positives + PRIOR_EXAMPLES))), 4)
