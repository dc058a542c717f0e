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

from model.evaluation.attributes import average_precisions, mean_average_precision
from model.evaluation.calibration import recognition_calibration_errors
from model.evaluation.captions import cider_scores, relation_hits
from model.evaluation.recognition import micro_f1, tag_counts, top_hits
from model.evaluation.scenes import (
    Recognition,
    RegionPredictor,
    RegionSet,
    check_vocabulary,
    image_prior_views,
    recognise,
    write_captions,
)
from model.evaluation.uncertainty import bootstrap_errors, mean_error, share_error
from model.records import Task
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
    found = recognise(predictor, main, image_prior_views(predictor), title="labels")
    figures = _recognition(main, found, predictor.card.thresholds["tags"]) | _captions(predictor, main)
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


def _recognition(regions: RegionSet, found: Recognition, threshold: float) -> dict[str, Estimate]:
    scores, truth = found.scores[Task.ATTRIBUTES], regions.attributes
    colours = np.array([attribute.type == "color" for attribute in regions.world.attributes])
    counts = tag_counts(found.scores[Task.TAGS] > threshold, regions.tags)

    def both_maps(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        each = average_precisions(scores[rows], truth[rows])
        return np.array([mean_average_precision(each), mean_average_precision(each[colours])])

    maps = both_maps(np.arange(len(regions)))
    map_errors = bootstrap_errors(both_maps, len(regions))
    f1_error = bootstrap_errors(lambda rows: np.array([micro_f1(counts[rows])]), len(regions))
    return {
        "class": _share(top_hits(found.scores[Task.CATEGORIES], regions.categories)),
        "attribute_map": Estimate(float(maps[0]), float(map_errors[0])),
        "colour_map": Estimate(float(maps[1]), float(map_errors[1])),
        "tag_f1": Estimate(micro_f1(counts), float(f1_error[0])),
    }


def _captions(predictor: RegionPredictor, regions: RegionSet) -> dict[str, Estimate]:
    """With the caption's task prior; `cider_t0`: with t = 0 for every view, so without any context."""
    references = [obj.captions for obj in regions.objects]
    relations = [obj.relation for obj in regions.objects]
    written = write_captions(predictor, regions, None, "captions")
    alone = write_captions(predictor, regions, (0.0,) * predictor.card.num_views, "captions at t = 0")
    figures = {"relation": _share(relation_hits(written, relations, regions.world.relations))}
    for name, captions in (("cider", written), ("cider_t0", alone)):
        each = cider_scores(captions, references)
        figures[name] = Estimate(float(each.mean()), mean_error(each))
    return figures


def _class(predictor: RegionPredictor, regions: RegionSet, split: Split) -> Estimate:
    found = recognise(predictor, regions, image_prior_views(predictor), (Task.CATEGORIES,), f"class {split}")
    return _share(top_hits(found.scores[Task.CATEGORIES], regions.categories))


def _unseen_style(world: World, art_cache: Path) -> SpritePack | None:
    sprites = unseen_style_sprites(world, art_cache)
    if sprites is None:
        packages = ", ".join(art.package for art in world.art if not art.shipped)
        message = f"class_unseen_style is null: {packages} is not in {art_cache}; `make art` installs it"
        print(message, file=sys.stderr)
    return sprites
