"""The figures of a model on drawn scenes: what `dynrefer evaluate --scenes-seed N` prints.

Recognition is asked with the image prior (no task), captions with their task prior.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.model.types import Task, ViewPolicy
from dynrefer.workbench.evaluation.cost import core_ms_per_region, megabytes
from dynrefer.workbench.evaluation.drawn_regions import RegionSet, check_vocabulary
from dynrefer.workbench.evaluation.inference import RECOGNITION, Answers, QuerySpec, RegionPredictor, run_queries
from dynrefer.workbench.evaluation.metrics.calibration import recognition_calibration_errors
from dynrefer.workbench.evaluation.metrics.curves import Curves, precision_recall, reliability
from dynrefer.workbench.evaluation.metrics.recognition import top_hits
from dynrefer.workbench.evaluation.metrics.scene_metrics import attribute_f1, neighbour_named, scene_figures
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, share
from dynrefer.workbench.evaluation.report.tables import plain_figures, plain_values
from dynrefer.workbench.scenes.artwork import SpritePack, unseen_style_packages, unseen_style_sprites
from dynrefer.workbench.scenes.scene import Split
from dynrefer.workbench.scenes.world import World

MAIN_REGIONS = 2_000
SIDE_SHARE = 0.4  # regions of each of the other sets, of those of the main one
SIDES: tuple[Split, ...] = ("heldout_pairs", "heldout_sprites", "unseen_style")
HEADLINE = (
    *("class", "class_heldout_pairs", "class_unseen_style", "attribute_map"),
    *("colour_map", "tag_f1", "relation", "cider"),
)


@dataclass(frozen=True)
class Measured:
    """result: every figure as plain data, ready for JSON. curves: what a plot is drawn of."""

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
) -> Measured:
    """Every figure: shares in 0..1, CIDEr-D in 0..10, `cider_gain` over captions without context.

    regions: the least that the main set holds. directory: the model's, for its size. art_cache: where `make art` put
    the style that is only evaluated on; without it `class_unseen_style` is None. Raises `DataError` for a model that
    lacks words of the world.
    """
    started = time.perf_counter()
    check_vocabulary(predictor, world)
    sprites = SpritePack.load()
    main = RegionSet.draw(world, sprites, "test", scenes_seed=scenes_seed, regions=regions)
    found, captions, alone = run_queries(predictor, main, _questions(predictor), "test")
    thresholds = predictor.card.thresholds
    threshold, attribute_threshold = thresholds["tags"], thresholds.get("attributes")
    figures = scene_figures(main, found, threshold) | scene_figures(main, captions, threshold)
    figures["cider_t0"] = scene_figures(main, alone, threshold)["cider"]
    figures["cider_gain"] = _ratio(figures["cider"], figures["cider_t0"])
    figures["neighbour_named"] = neighbour_named(world, captions.captions)
    if attribute_threshold is not None:
        figures["attribute_f1"] = attribute_f1(main, found.scores[Task.ATTRIBUTES], attribute_threshold)
    counts, notes = {"test": len(main)}, {}
    for split in SIDES:
        pack = unseen_style_sprites(world, art_cache) if split == "unseen_style" else sprites
        figures[f"class_{split}"], counts[split] = Estimate(), 0
        if pack is not None:
            size = round(SIDE_SHARE * regions)
            side = RegionSet.draw(world, pack, split, scenes_seed=scenes_seed, regions=size)
            figures[f"class_{split}"], counts[split] = _class(predictor, side, split), len(side)
        else:
            notes[f"class_{split}"] = (
                f"{', '.join(unseen_style_packages(world))} is not installed; `make art` installs it"
            )
    if directory is not None:
        figures["megabytes"] = megabytes(directory)
    figures["core_ms_per_region"] = core_ms_per_region(predictor, main)
    truth = (main.categories, main.tags, main.attributes)
    errors, others = (recognition_calibration_errors(found.probabilities, *truth, first=first) for first in (0, 1))
    order = (*HEADLINE, *(name for name in figures if name not in HEADLINE))
    result = {
        **plain_figures({name: figures[name] for name in order}),
        "calibration_error": plain_values(errors),
        "calibration_error_beyond_first_bin": plain_values(others),
        "regions": counts,
        "model": predictor.card.name,
        "revision": predictor.card.revision,
        "world_digest": world.digest,
        "scenes_seed": scenes_seed,
        "seconds": round(time.perf_counter() - started, 1),
    }
    for name, sentence in notes.items():
        print(f"{name} is null: {sentence} in {art_cache}", file=sys.stderr)
    return Measured(result | ({"notes": notes} if notes else {}), _curves(main, found))


def _ratio(one: Estimate, other: Estimate) -> Estimate:
    """Without an error: both are of the same regions."""
    return Estimate(one.value / other.value) if one.value is not None and other.value else Estimate()


def _curves(regions: RegionSet, found: Answers) -> Curves:
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


def _questions(predictor: RegionPredictor) -> list[QuerySpec]:
    """Labels, captions, and captions with t = 0 for every view: without any context."""
    return [
        QuerySpec(RECOGNITION, ViewPolicy.IMAGE_PRIOR),
        QuerySpec((Task.CAPTION,), ViewPolicy.TASK_PRIOR),
        QuerySpec((Task.CAPTION,), (0.0,) * predictor.card.num_views),
    ]


def _class(predictor: RegionPredictor, regions: RegionSet, split: Split) -> Estimate:
    question = QuerySpec((Task.CATEGORIES,), ViewPolicy.IMAGE_PRIOR)
    (found,) = run_queries(predictor, regions, [question], split)
    return share(top_hits(found.scores[Task.CATEGORIES], regions.categories))
