"""The four benchmarks on labelled data: which regions, what is asked, what is measured.

Views: a task is known, so its prior chooses them by default; the released code always searches by the image.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dynrefer.model.types import Task, ViewPolicy
from dynrefer.workbench.data.labelled import LabelledData, captioned, with_attributes, with_categories
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.errors import DataError
from dynrefer.workbench.evaluation.inference import QuerySpec, RegionPredictor, check_names, run_queries
from dynrefer.workbench.evaluation.metrics.attribute_map import attribute_figures
from dynrefer.workbench.evaluation.metrics.caption_scores import caption_figures
from dynrefer.workbench.evaluation.metrics.coco_map import coco_map
from dynrefer.workbench.evaluation.metrics.curves import Curves, precision_recall, reliability
from dynrefer.workbench.evaluation.metrics.dense_captions import dense_figures
from dynrefer.workbench.evaluation.metrics.java import NO_JAVA, meteor_scores, need_java
from dynrefer.workbench.evaluation.metrics.recognition import top_hits
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, share
from dynrefer.workbench.evaluation.predictions import (
    Prediction,
    answers_for,
    captions_for,
    dense_captions_for,
    predictions_from,
)
from dynrefer.workbench.evaluation.report.tables import plain_figures, plain_value, plain_values


@dataclass(frozen=True)
class Outcome:
    """result: plain data, ready for JSON. curves: what a plot is drawn of."""

    result: Mapping[str, Any]
    curves: Curves


TASK_OF = {
    Benchmark.CAPTIONS: Task.CAPTION,
    Benchmark.DENSE_CAPTIONS: Task.CAPTION,
    Benchmark.ATTRIBUTES: Task.ATTRIBUTES,
    Benchmark.RECOGNITION: Task.CATEGORIES,
}


def labelled_for(benchmark: Benchmark, data: LabelledData) -> LabelledData:
    """The regions whose truth the benchmark needs. Raises `DataError` where there is none."""
    select: dict[Benchmark, Callable[[LabelledData], LabelledData]] = {
        Benchmark.CAPTIONS: captioned,
        Benchmark.DENSE_CAPTIONS: partial(captioned, blank=True),
        Benchmark.ATTRIBUTES: with_attributes,
        Benchmark.RECOGNITION: with_categories,
    }
    return select[benchmark](data)


def check_measurable(benchmark: Benchmark, data: LabelledData) -> None:
    """Raise what would stop the measuring, before a network has run for it: `MissingJavaError` for dense captions
    without Java, `DataError` where no attribute is present. data: the regions of `labelled_for` that are measured."""
    if benchmark is Benchmark.DENSE_CAPTIONS:
        need_java("--task dense-captions, which ranks captions by METEOR,")
    if benchmark is Benchmark.ATTRIBUTES and not (data.attribute_targets == 1).any():
        raise DataError(f"no attribute is present in any region of {data.source}; there is nothing to find.")


def predict(
    predictor: RegionPredictor,
    benchmark: Benchmark,
    regions: LabelledData,
    *,
    image_prior: bool = False,
    batch_regions: int,
    readers: int,
) -> list[Prediction]:
    """Answers about every region, one each. Raises `DataError` for images or words that are missing."""
    task = TASK_OF[benchmark]
    regions.check_images()
    if task in regions.names:
        check_names(predictor, {task: regions.names[task]}, regions.source)
    specs = [QuerySpec((task,), ViewPolicy.IMAGE_PRIOR if image_prior else ViewPolicy.TASK_PRIOR)]
    (answers,) = run_queries(predictor, regions, specs, benchmark.value, batch_regions=batch_regions, readers=readers)
    return predictions_from(regions, answers)


def measure_benchmark(benchmark: Benchmark, data: LabelledData, predictions: Sequence[Prediction]) -> Outcome:
    """Compare predictions with `data`, which holds the regions of `labelled_for` and passed `check_measurable`.

    Raises `DataError` for predictions that do not fit the data.
    """
    measure: dict[Benchmark, Callable[[LabelledData, Sequence[Prediction]], Outcome]] = {
        Benchmark.CAPTIONS: _captions,
        Benchmark.DENSE_CAPTIONS: _dense_captions,
        Benchmark.ATTRIBUTES: _attributes,
        Benchmark.RECOGNITION: _recognition,
    }
    outcome = measure[benchmark](data, predictions)
    counts = {"regions": len(data), "images": len(data.by_image)}
    return Outcome({**outcome.result, **counts, "task": benchmark.value, "data": data.source}, outcome.curves)


def _captions(data: LabelledData, predictions: Sequence[Prediction]) -> Outcome:
    found = caption_figures(captions_for(data, predictions), [region.captions for region in data.regions])
    figures = plain_figures({"meteor": found.meteor, "cider": found.cider}) | {"tokenizer": found.tokenizer}
    if found.meteor.value is None:
        sentence = NO_JAVA.format("METEOR")
        print(f"meteor is null: {sentence}", file=sys.stderr)
        figures["notes"] = {"meteor": sentence.rstrip(".")}
    return Outcome(figures, Curves())


def _dense_captions(data: LabelledData, predictions: Sequence[Prediction]) -> Outcome:
    found = dense_figures(data.regions, dense_captions_for(data, predictions), meteor_scores)
    by_pair = {f"overlap {iou:g}, METEOR {meteor:g}": value for (iou, meteor), value in found.by_pair.items()}
    figures = plain_figures({"map": Estimate(found.mean), "boxes_alone_map": Estimate(found.boxes_alone)})
    return Outcome({**figures, "by_threshold": plain_values(by_pair)}, Curves(found.curves))


def _attributes(data: LabelledData, predictions: Sequence[Prediction]) -> Outcome:
    answers = answers_for(data, predictions, Task.ATTRIBUTES)
    scores, targets = answers.scores[Task.ATTRIBUTES], data.attribute_targets
    known = targets >= 0
    figures = plain_figures(attribute_figures(scores, targets, data.attributes, data.groups))
    ranked = {"all": precision_recall(scores[known], targets[known] == 1)}
    for group in dict.fromkeys(data.groups.values()):
        columns = np.array([data.groups.get(name) == group for name in data.attributes])
        some = known & columns[None, :]
        ranked[group] = precision_recall(scores[some], targets[some] == 1)
    probabilities = answers.probabilities[Task.ATTRIBUTES][known]
    if np.isnan(probabilities).any():
        return Outcome(figures, Curves(ranked))
    bins = reliability(probabilities, targets[known] == 1)
    figures["calibration_error"] = {"attributes": plain_value(bins.error)}
    return Outcome(figures, Curves(ranked, {"attributes": bins}))


def _recognition(data: LabelledData, predictions: Sequence[Prediction]) -> Outcome:
    answers = answers_for(data, predictions, Task.CATEGORIES)
    scores = answers.scores[Task.CATEGORIES]
    hits = top_hits(scores, data.category_targets)
    average, by_category, curve = coco_map(data, scores)
    figures: dict[str, Any] = {
        **plain_figures({"accuracy": share(hits), "map": Estimate(average)}),
        "by_category": plain_values(by_category),
    }
    best = answers.probabilities[Task.CATEGORIES].max(axis=1)
    if np.isnan(best).any():
        return Outcome(figures, Curves({"all": curve}))
    bins = reliability(best, hits)
    figures["calibration_error"] = {"categories": plain_value(bins.error)}
    return Outcome(figures, Curves({"all": curve}, {"categories": bins}))
