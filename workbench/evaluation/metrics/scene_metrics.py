"""What answers about drawn regions are worth: one figure per output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import Answers
from dynrefer.workbench.evaluation.metrics.attribute_map import (
    average_precisions,
    mean_average_precision,
    weighted_average_precisions,
)
from dynrefer.workbench.evaluation.metrics.caption_scores import any_of, cider_scores, relation_hits
from dynrefer.workbench.evaluation.metrics.recognition import micro_f1, tag_counts, top_hits
from dynrefer.workbench.evaluation.metrics.standard_errors import (
    Estimate,
    bootstrap_error,
    bootstrap_weights,
    mean,
    share,
)
from dynrefer.workbench.scenes.world import World


def scene_figures(regions: RegionSet, answers: Answers, tag_threshold: float) -> dict[str, Estimate]:
    """Figures of the tasks that were asked: "class" (accuracy), "attribute_map", "colour_map", "tag_f1" (micro, above
    the threshold), "relation" (share of captions that state the true one), "cider" (CIDEr-D, 0 to 10)."""
    figures: dict[str, Estimate] = {}
    if Task.CATEGORIES in answers.scores:
        figures["class"] = share(top_hits(answers.scores[Task.CATEGORIES], regions.categories))
    if Task.ATTRIBUTES in answers.scores:
        figures |= _attribute_figures(regions, answers.scores[Task.ATTRIBUTES])
    if Task.TAGS in answers.scores:
        figures["tag_f1"] = _micro_f1(answers.scores[Task.TAGS] > tag_threshold, regions.tags)
    if answers.captions:
        relations = [obj.relation for obj in regions.objects]
        figures["relation"] = share(relation_hits(answers.captions, relations, regions.world.relations))
        figures["cider"] = mean(cider_scores(answers.captions, [obj.captions for obj in regions.objects]))
    return figures


def attribute_f1(regions: RegionSet, scores: NDArray[np.float64], threshold: float) -> Estimate:
    """Micro F1 of the attributes strictly above a threshold, over what is known; scores: (R, A)."""
    known, present = regions.attributes >= 0, regions.attributes == 1
    return _micro_f1((scores > threshold) & known, present)


def _micro_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Estimate:
    """Of labels that are there or not; both (R, N)."""
    counts = tag_counts(predicted, truth)
    spread = bootstrap_error(micro_f1(bootstrap_weights(len(counts)) @ counts))
    return Estimate(float(micro_f1(counts.sum(axis=0))), spread)


def neighbour_named(world: World, captions: Sequence[str]) -> Estimate:
    """The share of captions that name two categories: their subject, right or wrong, and a neighbour."""
    pattern = any_of([category.name for category in world.categories])
    return share(np.array([len(set(pattern.findall(text))) > 1 for text in captions]))


def _attribute_figures(regions: RegionSet, scores: NDArray[np.float64]) -> dict[str, Estimate]:
    colours = np.array([attribute.type == "color" for attribute in regions.world.attributes])
    precisions = average_precisions(scores, regions.attributes)
    drawn = weighted_average_precisions(scores, regions.attributes, bootstrap_weights(len(regions)))

    def mean_of(some: NDArray[np.bool_]) -> Estimate:
        value = float(mean_average_precision(precisions[some]))
        return Estimate(value, bootstrap_error(mean_average_precision(drawn[:, some])))

    return {"attribute_map": mean_of(np.ones_like(colours)), "colour_map": mean_of(colours)}
