"""The figures of a model on drawn scenes: what `dynrefer evaluate --scenes-seed N` prints.

Recognition is asked with the image prior (no task), captions with their task prior.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.attributes import (
    average_precisions,
    mean_average_precision,
    weighted_average_precisions,
)
from model.evaluation.calibration import recognition_calibration_errors
from model.evaluation.captions import cider_scores, relation_hits
from model.evaluation.recognition import micro_f1, tag_counts, top_hits
from model.evaluation.scenes import (
    RECOGNITION,
    Answers,
    Question,
    RegionPredictor,
    RegionSet,
    ask,
    check_vocabulary,
)
from model.evaluation.uncertainty import bootstrap_error, bootstrap_weights, mean_error, share_error
from model.records import Task, ViewPolicy
from model.training.artwork import SpritePack, unseen_style_sprites
from model.training.scenes import Split
from model.training.world import World

MAIN_REGIONS = 2_000
SIDE_SHARE = 0.4  # regions of each of the other sets, of those of the main one
SIDES: tuple[Split, ...] = ("heldout_pairs", "heldout_sprites", "unseen_style")
HEADLINE = (
    *("class", "class_heldout_pairs", "class_unseen_style", "attribute_map"),
    *("colour_map", "tag_f1", "relation", "cider"),
)


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error; None where it could not be measured."""

    value: float | None = None
    error: float | None = None


def measure(
    predictor: RegionPredictor,
    world: World,
    *,
    scenes_seed: int,
    art_cache: Path,
    regions: int = MAIN_REGIONS,
) -> dict[str, Any]:
    """Every figure as plain data, ready for JSON: shares in 0..1, CIDEr-D in 0..10.

    regions: the least that the main set holds. art_cache: where `make art` put the style that is only
    evaluated on; without it `class_unseen_style` is None. Raises `ConfigError` for a model that lacks words
    of the world.
    """
    started = time.perf_counter()
    check_vocabulary(predictor, world)
    sprites = SpritePack.load()
    main = RegionSet.draw(world, sprites, "test", scenes_seed=scenes_seed, regions=regions)
    found, captions, alone = ask(predictor, main, _questions(predictor), "test")
    figures = _recognition(main, found, predictor.card.thresholds["tags"])
    figures |= _captions(main, captions.captions, alone.captions)
    counts = {"test": len(main)}
    for split in SIDES:
        pack = _unseen_style(world, art_cache) if split == "unseen_style" else sprites
        figures[f"class_{split}"], counts[split] = Estimate(), 0
        if pack is not None:
            size = round(SIDE_SHARE * regions)
            side = RegionSet.draw(world, pack, split, scenes_seed=scenes_seed, regions=size)
            figures[f"class_{split}"], counts[split] = _class(predictor, side, split), len(side)
    errors = recognition_calibration_errors(found.probabilities, main.categories, main.tags, main.attributes)
    order = (*HEADLINE, *(name for name in figures if name not in HEADLINE))
    return {
        **{name: _plain(figures[name].value) for name in order},
        "standard_errors": {name: _plain(figures[name].error) for name in order},
        "calibration_error": {task: _plain(error) for task, error in errors.items()},
        "regions": counts,
        "model": predictor.card.name,
        "revision": predictor.card.revision,
        "world_digest": world.digest,
        "scenes_seed": scenes_seed,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _plain(value: float | None) -> float | None:
    """Rounded; None for what a small sample left undefined, because JSON knows no NaN."""
    return None if value is None or np.isnan(value) else round(value, 4)


def _share(hits: NDArray[np.bool_]) -> Estimate:
    return Estimate(float(hits.mean()), share_error(hits))


def _questions(predictor: RegionPredictor) -> list[Question]:
    """Labels, captions, and captions with t = 0 for every view: without any context."""
    return [
        Question(RECOGNITION, ViewPolicy.IMAGE_PRIOR),
        Question((Task.CAPTION,), ViewPolicy.TASK_PRIOR),
        Question((Task.CAPTION,), (0.0,) * predictor.card.num_views),
    ]


def _recognition(regions: RegionSet, found: Answers, threshold: float) -> dict[str, Estimate]:
    scores, truth = found.scores[Task.ATTRIBUTES], regions.attributes
    colours = np.array([attribute.type == "color" for attribute in regions.world.attributes])
    counts = tag_counts(found.scores[Task.TAGS] > threshold, regions.tags)

    weights = bootstrap_weights(len(regions))
    precisions = average_precisions(scores, truth)
    drawn = weighted_average_precisions(scores, truth, weights)

    def mean_of(some: NDArray[np.bool_]) -> Estimate:
        value = float(mean_average_precision(precisions[some]))
        return Estimate(value, bootstrap_error(mean_average_precision(drawn[:, some])))

    return {
        "class": _share(top_hits(found.scores[Task.CATEGORIES], regions.categories)),
        "attribute_map": mean_of(np.ones_like(colours)),
        "colour_map": mean_of(colours),
        "tag_f1": Estimate(float(micro_f1(counts.sum(axis=0))), bootstrap_error(micro_f1(weights @ counts))),
    }


def _captions(regions: RegionSet, captions: list[str], alone: list[str]) -> dict[str, Estimate]:
    """captions: with their task prior. alone: without context, for `cider_t0`."""
    references = [obj.captions for obj in regions.objects]
    relations = [obj.relation for obj in regions.objects]
    figures = {"relation": _share(relation_hits(captions, relations, regions.world.relations))}
    for name, texts in (("cider", captions), ("cider_t0", alone)):
        each = cider_scores(texts, references)
        figures[name] = Estimate(float(each.mean()), mean_error(each))
    return figures


def _class(predictor: RegionPredictor, regions: RegionSet, split: Split) -> Estimate:
    question = Question((Task.CATEGORIES,), ViewPolicy.IMAGE_PRIOR)
    (found,) = ask(predictor, regions, [question], split)
    return _share(top_hits(found.scores[Task.CATEGORIES], regions.categories))


def _unseen_style(world: World, art_cache: Path) -> SpritePack | None:
    sprites = unseen_style_sprites(world, art_cache)
    if sprites is None:
        packages = ", ".join(art.package for art in world.art if not art.shipped)
        message = f"class_unseen_style is null: {packages} is not in {art_cache}; `make art` installs it"
        print(message, file=sys.stderr)
    return sprites
