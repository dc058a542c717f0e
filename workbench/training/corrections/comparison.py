"""A tuned model against the one that runs, on regions that neither learned from: metric by metric, with intervals.

Both answer as somebody asks who sets nothing: labels with the views that the image chooses, captions with the task's.
Shapes: R = regions, N = words, B = bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.types import RegionQuery, Task, ViewPolicy
from dynrefer.workbench.data.regions import Regions
from dynrefer.workbench.evaluation.inference import RECOGNITION, QueryResults, QuerySpec, RegionPredictor, run_queries
from dynrefer.workbench.evaluation.metrics.calibration import BINS
from dynrefer.workbench.evaluation.metrics.caption_scores import cider_scores
from dynrefer.workbench.evaluation.metrics.recognition import (
    mean_average_precision,
    micro_f1,
    tag_counts,
    weighted_average_precisions,
)
from dynrefer.workbench.evaluation.metrics.treebank import tokenise
from dynrefer.workbench.evaluation.paired import Difference, Metric, Weights, compare, mean_of
from dynrefer.workbench.training.corrections.words import LISTS, Judged, Truth

CORRECTIONS, DRAWN = "held-out corrections", "drawn benchmark"
# By how much a metric may be worse; CIDEr-D goes from 0 to 10, the others from 0 to 1.
MARGINS: Mapping[str, float] = {"accuracy": 0.02, "f1": 0.02, "map": 0.02, "cider": 0.2, "calibration_error": 0.05}
PRIMARY: Mapping[Task, str] = {
    Task.CATEGORIES: "accuracy",
    Task.TAGS: "f1",
    Task.ATTRIBUTES: "map",
    Task.CAPTION: "cider",
}
LOWER_IS_BETTER = frozenset({"calibration_error"})


@dataclass(frozen=True)
class Measured:
    """One metric of both models. where: `CORRECTIONS` or `DRAWN`."""

    where: str
    task: Task
    metric: str
    difference: Difference

    @property
    def primary(self) -> bool:
        """Whether it is the metric that its task is judged by."""
        return PRIMARY[self.task] == self.metric

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"where": self.where, "task": self.task.value, "metric": self.metric, **self.difference.as_json()}


@dataclass(frozen=True)
class Asked:
    """Regions whose truth is known. regions.names: the columns of `judged`. captions: per region its references, none
    where no caption is known. images: (R,) the image of each region."""

    where: str
    regions: Regions
    judged: Judged
    captions: tuple[tuple[str, ...], ...]
    images: NDArray[np.intp]


def widened(judged: Judged, known: Mapping[Task, Sequence[str]], names: Mapping[Task, Sequence[str]]) -> Judged:
    """The truth with columns for all of `names`, which begin with those of `known`.

    The others are names that a model has beside its vocabulary, of photographs: of a region whose category is judged
    they are wrong, of tags and attributes nothing is known of them.
    """
    tables: dict[Task, Truth] = {}
    for task in LISTS:
        table = judged.of(task)
        more = len(names[task]) - len(known[task])
        added = np.full((len(table), more), -1, np.int8)
        if task is Task.CATEGORIES:
            added[(table >= 0).any(axis=1)] = 0
        tables[task] = np.concatenate([table, added], axis=1)
    return Judged(tables[Task.CATEGORIES], tables[Task.TAGS], tables[Task.ATTRIBUTES])


def measure(before: RegionPredictor, after: RegionPredictor, asked: Asked) -> list[Measured]:
    """Every metric that the truth allows."""
    said = [_answers(model, asked) for model in (before, after)]
    thresholds = [model.card.thresholds["tags"] for model in (before, after)]
    found: list[Measured] = []
    for task in LISTS:
        rows = asked.judged.rows(task)
        if not len(rows):
            continue
        truth, images = asked.judged.of(task)[rows], asked.images[rows]
        scores = [labels.scores[task][rows] for labels, _ in said]
        probabilities = [labels.probabilities[task][rows] for labels, _ in said]
        quality = [_quality(task, each, truth, least) for each, least in zip(scores, thresholds, strict=True)]
        errors = [_calibration(task, *each, truth) for each in zip(scores, probabilities, strict=True)]
        found.append(Measured(asked.where, task, PRIMARY[task], compare(quality[0], quality[1], images)))
        found.append(Measured(asked.where, task, "calibration_error", compare(errors[0], errors[1], images)))
    return [*found, *_captions(asked, [captions for _, captions in said])]


def _answers(model: RegionPredictor, asked: Asked) -> tuple[QueryResults, list[str]]:
    specs = [QuerySpec(RECOGNITION, ViewPolicy.IMAGE_PRIOR)]
    if any(asked.captions):
        specs.append(QuerySpec((Task.CAPTION,), ViewPolicy.TASK_PRIOR))
    found = run_queries(model, asked.regions, specs, f"{asked.where}, revision {model.card.revision}")
    return found[0], found[1].captions if len(found) > 1 else []


def _quality(task: Task, scores: NDArray[np.float64], truth: Truth, threshold: float) -> Metric:
    if task is Task.CATEGORIES:
        return mean_of(_hits(scores, truth).astype(np.float64))
    if task is Task.TAGS:
        counts = tag_counts((scores > threshold) & (truth >= 0), truth == 1)
        return lambda weights: micro_f1(weights @ counts)
    return lambda weights: mean_average_precision(weighted_average_precisions(scores, truth, weights))


def _hits(scores: NDArray[np.float64], truth: Truth) -> NDArray[np.bool_]:
    """Whether the best category is the true one; a model that gave none is wrong."""
    best = scores.argmax(axis=1)
    rows = np.arange(len(scores))
    hits: NDArray[np.bool_] = np.isfinite(scores[rows, best]) & (truth[rows, best] == 1)
    return hits


def _calibration(task: Task, scores: NDArray[np.float64], probabilities: NDArray[np.float64], truth: Truth) -> Metric:
    """The expected calibration error, as `metrics.calibration.calibration_error`; of categories that of the best."""
    if task is Task.CATEGORIES:
        promised, right = probabilities.max(axis=1)[:, None], _hits(scores, truth)[:, None]
        known = np.ones_like(right)
    else:
        promised, right, known = probabilities, truth == 1, truth >= 0
    place = np.minimum((promised * BINS).astype(np.int64), BINS - 1)
    gaps = np.zeros((len(truth), BINS))
    counts = np.zeros((len(truth), BINS))
    for bin in range(BINS):
        inside = (place == bin) & known
        gaps[:, bin] = np.where(inside, promised - right, 0.0).sum(axis=1)
        counts[:, bin] = inside.sum(axis=1)

    def metric(weights: Weights) -> NDArray[np.float64]:
        total = np.maximum((weights @ counts).sum(axis=1), 1)
        found: NDArray[np.float64] = np.abs(weights @ gaps).sum(axis=1) / total
        return found

    return metric


def _captions(asked: Asked, said: Sequence[Sequence[str]]) -> list[Measured]:
    rows = np.array([row for row, texts in enumerate(asked.captions) if texts], dtype=np.intp)
    if not len(rows):
        return []
    references = [asked.captions[row] for row in rows]
    chosen = [[captions[row] for row in rows] for captions in said]
    cider = [mean_of(cider_scores(captions, references)) for captions in chosen]
    exact = [mean_of(_exact(captions, references)) for captions in chosen]
    images = asked.images[rows]
    return [
        Measured(asked.where, Task.CAPTION, "cider", compare(cider[0], cider[1], images)),
        Measured(asked.where, Task.CAPTION, "exact", compare(exact[0], exact[1], images)),
    ]


def _exact(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """1 for a caption that has the words of a reference in its order, else 0."""
    pairs = zip(captions, references, strict=True)
    return np.array([float(tokenise(text) in {tokenise(each) for each in texts}) for text, texts in pairs])


def text_table(measured: Sequence[Measured]) -> str:
    """For people: one line per metric."""
    head = f"{'':<22}{'':<12}{'':<18}{'before':>8}{'after':>8}{'change':>9}  {'95 % of changes':<20}regions (images)"
    lines = [head]
    for each in measured:
        d = each.difference
        if d.before is None or d.after is None or d.difference is None:
            continue
        span = "" if d.low is None or d.high is None else f"{d.low:+.3f} to {d.high:+.3f}"
        lines.append(
            f"{each.where:<22}{each.task.value:<12}{each.metric:<18}{d.before:8.3f}{d.after:8.3f}{d.difference:+9.3f}  "
            f"{span:<20}{d.regions} ({d.images})"
        )
    return "\n".join(lines)


def photographs(model: RegionPredictor, regions: Regions) -> int:
    """How many of the regions the model takes for photographs, which its evidence names; 0 for one without."""
    count = 0
    for source in regions.image_regions():
        queries = [RegionQuery(box, tasks=(Task.CATEGORIES,)) for box in source.boxes]
        prepared = model.prepare(source.load(), queries)
        found = (model.finish(*pair) for pair in zip(prepared, model.run(prepared), strict=True))
        count += sum(each.domain == "photograph" for each in found)
    return count
