"""The four benchmarks on labelled data: which regions, which task, which metrics.

Views: the task prior by default, because the task is known; the released code always uses the image prior.
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
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.inference import QuerySpec, RegionPredictor, check_names, run_queries
from dynrefer.workbench.evaluation.metrics.caption_scores import caption_metrics
from dynrefer.workbench.evaluation.metrics.coco_map import coco_map
from dynrefer.workbench.evaluation.metrics.curves import Curves, precision_recall, reliability
from dynrefer.workbench.evaluation.metrics.dense_captions import dense_caption_metrics
from dynrefer.workbench.evaluation.metrics.java import NO_JAVA, meteor_scores, need_java
from dynrefer.workbench.evaluation.metrics.recognition import attribute_metrics, top_hits
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, proportion
from dynrefer.workbench.evaluation.predictions import (
    Prediction,
    captions_for,
    dense_captions_for,
    predictions_from,
    results_for,
)
from dynrefer.workbench.evaluation.report.tables import json_metrics, json_value, json_values


@dataclass(frozen=True)
class BenchmarkResult:
    """result: JSON-ready. curves: the data of the plots."""

    result: Mapping[str, Any]
    curves: Curves


TASK_OF = {
    Benchmark.CAPTIONS: Task.CAPTION,
    Benchmark.DENSE_CAPTIONS: Task.CAPTION,
    Benchmark.ATTRIBUTES: Task.ATTRIBUTES,
    Benchmark.RECOGNITION: Task.CATEGORIES,
}


def labelled_for(benchmark: Benchmark, data: LabelledData) -> LabelledData:
    """The regions that have the benchmark's ground truth. Raises `DataError` if there are none."""
    select: dict[Benchmark, Callable[[LabelledData], LabelledData]] = {
        Benchmark.CAPTIONS: captioned,
        Benchmark.DENSE_CAPTIONS: partial(captioned, blank=True),
        Benchmark.ATTRIBUTES: with_attributes,
        Benchmark.RECOGNITION: with_categories,
    }
    return select[benchmark](data)


def check_measurable(benchmark: Benchmark, data: LabelledData) -> None:
    """Raise, before the network runs, what would make measuring fail afterwards.

    `MissingJavaError` for dense captions without Java, `DataError` if no attribute is present in any region. data: the
    regions of `labelled_for` that will be measured.
    """
    if benchmark is Benchmark.DENSE_CAPTIONS:
        need_java("--task dense-captions, which ranks captions by METEOR,")
    if benchmark is Benchmark.ATTRIBUTES and not (data.attribute_targets == 1).any():
        raise DataError(f"no attribute is present in any region of {data.source}; there is nothing to measure.")


def predict(
    predictor: RegionPredictor,
    benchmark: Benchmark,
    regions: LabelledData,
    *,
    image_prior: bool = False,
    batch_regions: int,
    readers: int,
) -> list[Prediction]:
    """Run the model: one prediction per region. Raises `DataError` for a label that the model lacks."""
    task = TASK_OF[benchmark]
    if task in regions.names:
        check_names(predictor, {task: regions.names[task]}, regions.source)
    specs = [QuerySpec((task,), ViewPolicy.IMAGE_PRIOR if image_prior else ViewPolicy.TASK_PRIOR)]
    (results,) = run_queries(predictor, regions, specs, benchmark.value, batch_regions=batch_regions, readers=readers)
    return predictions_from(regions, results)


def measure_benchmark(benchmark: Benchmark, data: LabelledData, predictions: Sequence[Prediction]) -> BenchmarkResult:
    """Compare predictions with `data`, the regions of `labelled_for` that passed `check_measurable`.

    Raises `DataError` for predictions that do not match the data.
    """
    measure: dict[Benchmark, Callable[[LabelledData, Sequence[Prediction]], BenchmarkResult]] = {
        Benchmark.CAPTIONS: _captions,
        Benchmark.DENSE_CAPTIONS: _dense_captions,
        Benchmark.ATTRIBUTES: _attributes,
        Benchmark.RECOGNITION: _recognition,
    }
    measured = measure[benchmark](data, predictions)
    counts = {"regions": len(data), "images": len(data.by_image)}
    return BenchmarkResult({**measured.result, **counts, "task": benchmark.value, "data": data.source}, measured.curves)


def _captions(data: LabelledData, predictions: Sequence[Prediction]) -> BenchmarkResult:
    found = caption_metrics(captions_for(data, predictions), [region.captions for region in data.regions])
    metrics = json_metrics({"meteor": found.meteor, "cider": found.cider}) | {"tokenizer": found.tokenizer}
    if found.meteor.value is None:
        sentence = NO_JAVA.format("METEOR")
        print(f"meteor is null: {sentence}", file=sys.stderr)
        metrics["notes"] = {"meteor": sentence.rstrip(".")}
    return BenchmarkResult(metrics, Curves())


def _dense_captions(data: LabelledData, predictions: Sequence[Prediction]) -> BenchmarkResult:
    found = dense_caption_metrics(data.regions, dense_captions_for(data, predictions), meteor_scores)
    by_pair = {f"overlap {iou:g}, METEOR {meteor:g}": value for (iou, meteor), value in found.by_pair.items()}
    metrics = json_metrics({"map": Estimate(found.mean), "boxes_alone_map": Estimate(found.boxes_alone)})
    return BenchmarkResult({**metrics, "by_threshold": json_values(by_pair)}, Curves(found.curves))


def _attributes(data: LabelledData, predictions: Sequence[Prediction]) -> BenchmarkResult:
    found = results_for(data, predictions, Task.ATTRIBUTES)
    scores, targets = found.scores[Task.ATTRIBUTES], data.attribute_targets
    known = targets >= 0
    metrics = json_metrics(attribute_metrics(scores, targets, data.attributes, data.groups))
    ranked = {"all": precision_recall(scores[known], targets[known] == 1)}
    for group in dict.fromkeys(data.groups.values()):
        columns = np.array([data.groups.get(name) == group for name in data.attributes])
        some = known & columns[None, :]
        ranked[group] = precision_recall(scores[some], targets[some] == 1)
    probabilities = found.probabilities[Task.ATTRIBUTES][known]
    if np.isnan(probabilities).any():
        return BenchmarkResult(metrics, Curves(ranked))
    bins = reliability(probabilities, targets[known] == 1)
    metrics["calibration_error"] = {"attributes": json_value(bins.error)}
    return BenchmarkResult(metrics, Curves(ranked, {"attributes": bins}))


def _recognition(data: LabelledData, predictions: Sequence[Prediction]) -> BenchmarkResult:
    found = results_for(data, predictions, Task.CATEGORIES)
    scores = found.scores[Task.CATEGORIES]
    hits = top_hits(scores, data.category_targets)
    average, by_category, curve = coco_map(data, scores)
    metrics: dict[str, Any] = {
        **json_metrics({"accuracy": proportion(hits), "map": Estimate(average)}),
        "by_category": json_values(by_category),
    }
    best = found.probabilities[Task.CATEGORIES].max(axis=1)
    if np.isnan(best).any():
        return BenchmarkResult(metrics, Curves({"all": curve}))
    bins = reliability(best, hits)
    metrics["calibration_error"] = {"categories": json_value(bins.error)}
    return BenchmarkResult(metrics, Curves({"all": curve}, {"categories": bins}))
