"""Metrics of drawn regions: one or two per output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import QueryResults
from dynrefer.workbench.evaluation.metrics.caption_scores import any_of, cider_scores, relation_hits
from dynrefer.workbench.evaluation.metrics.recognition import (
    average_precisions,
    mean_average_precision,
    micro_f1,
    tag_counts,
    top_hits,
    weighted_average_precisions,
)
from dynrefer.workbench.evaluation.metrics.standard_errors import (
    Estimate,
    bootstrap_error,
    bootstrap_weights,
    mean,
    proportion,
)
from dynrefer.workbench.scenes.world import World


def scene_metrics(regions: RegionSet, results: QueryResults, tag_threshold: float) -> dict[str, Estimate]:
    """Metrics of the tasks in `results`: "class" (accuracy), "attribute_map", "colour_map", "tag_f1" (micro, above the
    threshold), "relation" (proportion of captions that state the true one), "cider" (CIDEr-D, 0 to 10)."""
    metrics: dict[str, Estimate] = {}
    if Task.CATEGORIES in results.scores:
        metrics["class"] = proportion(top_hits(results.scores[Task.CATEGORIES], regions.categories))
    if Task.ATTRIBUTES in results.scores:
        metrics |= _attribute_metrics(regions, results.scores[Task.ATTRIBUTES])
    if Task.TAGS in results.scores:
        metrics["tag_f1"] = _micro_f1(results.scores[Task.TAGS] > tag_threshold, regions.tags)
    if results.captions:
        relations = [obj.relation for obj in regions.objects]
        metrics["relation"] = proportion(relation_hits(results.captions, relations, regions.world.relations))
        metrics["cider"] = mean(cider_scores(results.captions, [obj.captions for obj in regions.objects]))
    return metrics


def attribute_f1(regions: RegionSet, scores: NDArray[np.float64], threshold: float) -> Estimate:
    """Micro F1 of the attributes strictly above a threshold, over the known ones; scores: (R, A)."""
    known, present = regions.attributes >= 0, regions.attributes == 1
    return _micro_f1((scores > threshold) & known, present)


def _micro_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Estimate:
    """With a bootstrapped standard error; both inputs (R, N)."""
    counts = tag_counts(predicted, truth)
    spread = bootstrap_error(micro_f1(bootstrap_weights(len(counts)) @ counts))
    return Estimate(float(micro_f1(counts.sum(axis=0))), spread)


def neighbour_named(world: World, captions: Sequence[str]) -> Estimate:
    """The proportion of captions that name two categories: one for the subject, right or wrong, and a neighbour's."""
    pattern = any_of([category.name for category in world.categories])
    return proportion(np.array([len(set(pattern.findall(text))) > 1 for text in captions]))


def _attribute_metrics(regions: RegionSet, scores: NDArray[np.float64]) -> dict[str, Estimate]:
    colours = np.array([attribute.type == "color" for attribute in regions.world.attributes])
    precisions = average_precisions(scores, regions.attributes)
    drawn = weighted_average_precisions(scores, regions.attributes, bootstrap_weights(len(regions)))

    def mean_of(some: NDArray[np.bool_]) -> Estimate:
        value = float(mean_average_precision(precisions[some]))
        return Estimate(value, bootstrap_error(mean_average_precision(drawn[:, some])))

    return {"attribute_map": mean_of(np.ones_like(colours)), "colour_map": mean_of(colours)}
