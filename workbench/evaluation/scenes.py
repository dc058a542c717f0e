"""Metrics of a model on drawn scenes: what `dynrefer evaluate --scenes-seed N` prints.

Views: the image prior for tags, attributes and categories; the task prior for captions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dynrefer.model.types import Task, ViewPolicy
from dynrefer.workbench.evaluation.drawn_regions import RegionSet, check_vocabulary
from dynrefer.workbench.evaluation.inference import RECOGNITION, QueryResults, QuerySpec, RegionPredictor, run_queries
from dynrefer.workbench.evaluation.metrics.calibration import recognition_calibration_errors
from dynrefer.workbench.evaluation.metrics.cost import core_ms_per_region, megabytes
from dynrefer.workbench.evaluation.metrics.curves import Curves, precision_recall, reliability
from dynrefer.workbench.evaluation.metrics.recognition import top_hits
from dynrefer.workbench.evaluation.metrics.scene_metrics import attribute_f1, neighbour_named, scene_metrics
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, proportion
from dynrefer.workbench.evaluation.report.tables import json_metrics, json_values
from dynrefer.workbench.scenes.artwork import SpritePack, unseen_style_packages, unseen_style_sprites
from dynrefer.workbench.scenes.scene import Split
from dynrefer.workbench.scenes.world import World

MAIN_REGIONS = 2_000
SIDE_FRACTION = 0.4  # size of each held-out set, relative to the main one
SIDE_SPLITS: tuple[Split, ...] = ("heldout_pairs", "heldout_sprites", "unseen_style")
HEADLINE_METRICS = (
    *("class", "class_heldout_pairs", "class_unseen_style", "attribute_map"),
    *("colour_map", "tag_f1", "relation", "cider"),
)


@dataclass(frozen=True)
class SceneResult:
    """result: every metric, JSON-ready. curves: the data of the plots."""

    result: Mapping[str, Any]
    curves: Curves


def measure(
    predictor: RegionPredictor,
    world: World,
    *,
    scenes_seed: int,
    art_cache: Path,
    regions: int = MAIN_REGIONS,
    directory: Path | None = None,
    jpeg_quality: int | None = None,
) -> SceneResult:
    """Measure everything: proportions in [0, 1], CIDEr-D in [0, 10]; `cider_gain` is CIDEr-D over that without context.

    regions: least size of the main set. directory: the model's, for its size on disk. art_cache: the folder that
    `make art` installs the evaluation-only style in; without it `class_unseen_style` is None and `notes` says why.
    jpeg_quality: the model sees the scenes as JPEG of this quality (`RegionSet.draw`).
    Raises `DataError` for a model whose vocabulary lacks words of the world, `SpritesError` without sprites.
    """
    started = time.perf_counter()
    check_vocabulary(predictor, world)
    sprites = SpritePack.load()
    drawn = partial(RegionSet.draw, world, scenes_seed=scenes_seed, jpeg_quality=jpeg_quality)
    main = drawn(sprites, "test", regions=regions)
    found, captions, region_only = run_queries(predictor, main, _query_specs(predictor), "test")
    thresholds = predictor.card.thresholds
    threshold, attribute_threshold = thresholds["tags"], thresholds.get("attributes")
    metrics = scene_metrics(main, found, threshold) | scene_metrics(main, captions, threshold)
    metrics["cider_t0"] = scene_metrics(main, region_only, threshold)["cider"]
    metrics["cider_gain"] = _ratio(metrics["cider"], metrics["cider_t0"])
    metrics["neighbour_named"] = neighbour_named(world, captions.captions)
    if attribute_threshold is not None:
        metrics["attribute_f1"] = attribute_f1(main, found.scores[Task.ATTRIBUTES], attribute_threshold)
    heldout, counts, notes = _measure_heldout(predictor, world, sprites, drawn, regions, art_cache)
    metrics |= heldout
    if directory is not None:
        metrics["megabytes"] = megabytes(directory)
    metrics["core_ms_per_region"] = core_ms_per_region(predictor, main)
    truth = (main.categories, main.tags, main.attributes)
    errors, beyond_first = (recognition_calibration_errors(found.probabilities, *truth, first=bin) for bin in (0, 1))
    order = (*HEADLINE_METRICS, *(name for name in metrics if name not in HEADLINE_METRICS))
    result = {
        **json_metrics({name: metrics[name] for name in order}),
        "calibration_error": json_values(errors),
        "calibration_error_beyond_first_bin": json_values(beyond_first),
        "regions": {"test": len(main), **counts},
        "model": predictor.card.name,
        "revision": predictor.card.revision,
        "world_digest": world.digest,
        "scenes_seed": scenes_seed,
        **({} if jpeg_quality is None else {"jpeg_quality": jpeg_quality}),
        "seconds": round(time.perf_counter() - started, 1),
    }
    for name, sentence in notes.items():
        print(f"{name} is null: {sentence} in {art_cache}", file=sys.stderr)
    return SceneResult(result | ({"notes": notes} if notes else {}), _curves(main, found))


def _measure_heldout(
    predictor: RegionPredictor,
    world: World,
    sprites: SpritePack,
    draw: Callable[..., RegionSet],
    regions: int,
    art_cache: Path,
) -> tuple[dict[str, Estimate], dict[str, int], dict[str, str]]:
    """Accuracy of categories on held-out sets: metrics, numbers of regions, and why a metric was not measured."""
    metrics: dict[str, Estimate] = {}
    counts: dict[str, int] = {}
    notes: dict[str, str] = {}
    for split in SIDE_SPLITS:
        name = f"class_{split}"
        pack = unseen_style_sprites(world, art_cache) if split == "unseen_style" else sprites
        if pack is None:
            packages = ", ".join(unseen_style_packages(world))
            metrics[name], counts[split] = Estimate(), 0
            notes[name] = f"{packages} is not installed; `make art` installs it"
            continue
        size = round(SIDE_FRACTION * regions)
        side = draw(pack, split, regions=size)
        metrics[name], counts[split] = _accuracy(predictor, side, split), len(side)
    return metrics, counts, notes


def _ratio(one: Estimate, other: Estimate) -> Estimate:
    """Without a standard error, because both are measured on the same regions."""
    return Estimate(one.value / other.value) if one.value is not None and other.value else Estimate()


def _curves(regions: RegionSet, found: QueryResults) -> Curves:
    """Of categories, the best one alone counts."""
    known, best = regions.attributes >= 0, found.probabilities[Task.CATEGORIES]
    tags, attributes = found.probabilities[Task.TAGS].ravel(), found.probabilities[Task.ATTRIBUTES][known]
    present, top = regions.attributes[known] == 1, best.argmax(axis=1) == regions.categories
    return Curves(
        {
            "tags": precision_recall(tags, regions.tags.ravel()),
            "attributes": precision_recall(attributes, present),
            "categories": precision_recall(best.max(axis=1), top),
        },
        {
            "tags": reliability(tags, regions.tags.ravel()),
            "attributes": reliability(attributes, present),
            "categories": reliability(best.max(axis=1), top),
        },
    )


def _query_specs(predictor: RegionPredictor) -> list[QuerySpec]:
    """Labels; captions; and captions without context, with t = 0 for every view."""
    return [
        QuerySpec(RECOGNITION, ViewPolicy.IMAGE_PRIOR),
        QuerySpec((Task.CAPTION,), ViewPolicy.TASK_PRIOR),
        QuerySpec((Task.CAPTION,), (0.0,) * predictor.card.num_views),
    ]


def _accuracy(predictor: RegionPredictor, regions: RegionSet, split: Split) -> Estimate:
    spec = QuerySpec((Task.CATEGORIES,), ViewPolicy.IMAGE_PRIOR)
    (found,) = run_queries(predictor, regions, [spec], split)
    return proportion(top_hits(found.scores[Task.CATEGORIES], regions.categories))
