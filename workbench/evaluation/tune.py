"""Tuning after training: the views per task, the thresholds and the calibration.

Uses validation scenes, never test scenes. Recognition is tuned first: captions are conditioned on the tags above the
threshold, so their views are compared with the tuned threshold in place. Paper: figure 4.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynrefer.model.errors import ConfigError
from dynrefer.model.types import Task, ViewPolicy
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.evaluation.drawn_regions import RegionSet, check_vocabulary
from dynrefer.workbench.evaluation.inference import RECOGNITION, QueryResults, QuerySpec, RegionPredictor, run_queries
from dynrefer.workbench.evaluation.metrics.calibration import fit_sigmoid, fit_softmax, logits_of
from dynrefer.workbench.evaluation.metrics.caption_scores import cider_scores
from dynrefer.workbench.evaluation.metrics.recognition import (
    average_precisions,
    best_threshold,
    mean_average_precision,
    top_hits,
)
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

TUNING_REGIONS = 1_000
STEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
TUNED_KEYS = ("task_priors", "thresholds", "calibration")

Views = tuple[float, ...]
Load = Callable[[Path], RegionPredictor]


@dataclass(frozen=True)
class Tuning:
    """The result of tuning.

    fragment: for config.json, under `TUNED_KEYS`. quality: task -> views ("0, 0.1, 0.4") -> accuracy of categories,
    mAP of attributes, best F1 of tags, CIDEr-D of captions.
    """

    fragment: Mapping[str, Any]
    quality: Mapping[str, Mapping[str, float]]


def view_choices(num_views: int, steps: Views = STEPS) -> tuple[Views, ...]:
    """t = 0 with every combination of `num_views` - 1 steps, in ascending order; training uses every order."""
    return tuple((0.0, *rest) for rest in itertools.combinations(steps, num_views - 1))


def tune(
    directory: Path, load: Load, *, scenes_seed: int, regions: int = TUNING_REGIONS, steps: Views = STEPS
) -> Tuning:
    """Tune priors, thresholds and calibration for the model in `directory`, which is left unchanged.

    load: loads a model directory. regions: least number of regions that every choice of views is tried on.
    Raises `ModelError` as `load` does, `DataError` if the model lacks labels of the drawn world.
    """
    predictor, world = load(directory), World.load()
    check_vocabulary(predictor, world)
    sprites = SpritePack.load()
    drawn = RegionSet.draw(world, sprites, "test", scenes_seed=scenes_seed, regions=regions, validation=True)
    choices = view_choices(predictor.card.num_views, steps)
    fragment, quality = _tune_recognition(predictor, drawn, choices)
    with tuned_copy(directory, fragment) as copy:
        quality["caption"] = _caption_quality(load(copy), drawn, choices)
    fragment["task_priors"]["caption"] = list(_best(quality["caption"]))
    named = {task: {_name(ts): round(x, 4) for ts, x in each.items()} for task, each in quality.items()}
    return Tuning(fragment, named)


def _tune_recognition(
    predictor: RegionPredictor, drawn: RegionSet, choices: tuple[Views, ...]
) -> tuple[dict[str, Any], dict[str, dict[Views, float]]]:
    specs = [QuerySpec(RECOGNITION, views) for views in choices]
    specs.append(QuerySpec(RECOGNITION, ViewPolicy.IMAGE_PRIOR))
    *by_choice, by_image = run_queries(predictor, drawn, specs, "labels")
    each = [recognition_quality(drawn, found) for found in by_choice]
    quality = {task: dict(zip(choices, [values[task] for values in each], strict=True)) for task in RECOGNITION}
    best = {task: by_choice[choices.index(_best(quality[task]))] for task in RECOGNITION}
    # Both view policies share one threshold and one calibration, so these are fitted on both.
    pooled = {task: np.concatenate([best[task].scores[task], by_image.scores[task]]) for task in RECOGNITION}
    tags, attributes = np.tile(drawn.tags, (2, 1)), np.tile(drawn.attributes, (2, 1))
    known = attributes >= 0
    present, attribute_scores = attributes[known] == 1, pooled[Task.ATTRIBUTES][known]
    fragment = {
        "task_priors": {task.value: list(_best(quality[task])) for task in RECOGNITION},
        "thresholds": {
            "tags": round(best_threshold(pooled[Task.TAGS], tags)[0], 4),
            "attributes": round(best_threshold(attribute_scores, present)[0], 4),
        },
        "calibration": {
            "tags": fit_sigmoid(logits_of(pooled[Task.TAGS]).ravel(), tags.ravel()),
            "attributes": fit_sigmoid(logits_of(attribute_scores), present),
            "categories": fit_softmax(pooled[Task.CATEGORIES], np.tile(drawn.categories, 2)),
        },
    }
    return fragment, {task.value: quality[task] for task in RECOGNITION}


def recognition_quality(drawn: RegionSet, found: QueryResults) -> dict[Task, float]:
    """What choices of views are compared by: micro F1 at its best threshold, mAP, and accuracy."""
    precisions = average_precisions(found.scores[Task.ATTRIBUTES], drawn.attributes)
    return {
        Task.TAGS: best_threshold(found.scores[Task.TAGS], drawn.tags)[1],
        Task.ATTRIBUTES: float(mean_average_precision(precisions)),
        Task.CATEGORIES: float(top_hits(found.scores[Task.CATEGORIES], drawn.categories).mean()),
    }


def _caption_quality(predictor: RegionPredictor, drawn: RegionSet, choices: tuple[Views, ...]) -> dict[Views, float]:
    references = [obj.captions for obj in drawn.objects]
    found = run_queries(predictor, drawn, [QuerySpec((Task.CAPTION,), views) for views in choices], "captions")
    means = [float(cider_scores(each.captions, references).mean()) for each in found]
    return dict(zip(choices, means, strict=True))


def _best(quality: Mapping[Views, float]) -> Views:
    """The best choice; the first of them on a tie."""
    return max(quality, key=lambda views: quality[views])


def _name(views: Views) -> str:
    return ", ".join(f"{t:g}" for t in views)


@contextlib.contextmanager
def tuned_copy(directory: Path, fragment: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary model directory with `fragment` in its config.json and all other files linked to `directory`."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for entry in directory.iterdir():
            if entry.name != "config.json":
                (copy / entry.name).symlink_to(entry.resolve())
        (copy / "config.json").write_bytes((directory / "config.json").read_bytes())
        apply_tuning(copy, fragment)
        yield copy


def apply_tuning(directory: Path, fragment: Mapping[str, Any]) -> None:
    """Merge a fragment of `tune` into the config.json of a model directory, atomically.

    Entries of other tasks are kept. Raises `ConfigError` for a key that is not one of `TUNED_KEYS`.
    """
    unknown = sorted(set(fragment) - set(TUNED_KEYS))
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} in the tuning; it may hold {', '.join(TUNED_KEYS)}.")
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key, values in fragment.items():
        config[key] = {**(config.get(key) or {}), **values}
    replace_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
