"""Fits how the scores of the embedded finder are read, on drawn scenes that are neither trained nor evaluated on.

    python -m dynrefer.workbench.training.finder.calibration --apply

Thresholds: of names, so that few images get a box of a name that they do not show; of proposals, the best F1. The
probabilities of regions, proposals and of a name's presence are Platt's, of the scores' logits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import DynRefer
from dynrefer.model.finding import AskedName, Candidates, FindQuery
from dynrefer.model.findings import findings
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.networks.finder.weights import CONFIG, FOLDER
from dynrefer.model.score_reading import Calibration, ScoreReading
from dynrefer.model.suppression import overlaps, suppress
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.evaluation.metrics.calibration import fit_sigmoid, logits_of
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

FIRST_SEED = 4_500_000_000  # of the scenes; training uses lower ones, evaluation higher ones
ABSENT_NAMES = 5  # of an image
DRAWS = 8  # of such names, per image
MOST_IMAGES = 0.025  # that get a box of such a name
_RIGHT = 0.5  # least overlap of a region with its object
_PHRASE = 0.5  # of the threshold of names: modifiers lower a score, and a phrase has few boxes


@dataclass
class _Judged:
    """Scores, and whether each was right."""

    scores: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def calibration(self) -> Calibration:
        """Platt's."""
        fitted = fit_sigmoid(logits_of(np.array(self.scores, np.float64)), np.array(self.right))
        return Calibration(round(fitted["scale"], 4), round(fitted["bias"], 4))


def fit_reading(finder: DynRefer, scenes: int) -> ScoreReading:
    """The reading of a finder's scores."""
    world, sprites = World.load(), SpritePack.load()
    names = [category.name for category in world.categories]
    query = FindQuery(tuple(map(AskedName, names)), threshold=0.02, max_regions=100)
    regions, proposals, presence = _Judged(), _Judged(), _Judged()
    highest: list[float] = []  # score of the absent names, of each image
    rng = np.random.default_rng(3)
    for scene in _scenes(world, sprites, scenes):
        found = _searched(finder, scene, query)
        size = scene.image.shape[1], scene.image.shape[0]
        for region in findings(query, found, (), size).regions:
            regions.scores.append(region.score)
            regions.right.append(_is(region.label, region.box, scene))
        _judge_proposals(proposals, found, scene)
        shown = {each.category for each in scene.objects}
        others = [name for name in names if name not in shown]
        draws = [rng.choice(others, ABSENT_NAMES, replace=False).tolist() for _ in range(DRAWS)]
        best = dict(zip(names, np.nan_to_num(found.scores).max(axis=0, initial=0.0).tolist(), strict=True))
        highest += [max(best[name] for name in absent) for absent in draws]
        for name in [*draws[0], *sorted(shown)]:
            presence.scores.append(best[name])
            presence.right.append(name in shown)
    threshold = round(float(np.quantile(highest, 1 - MOST_IMAGES)), 3)
    return ScoreReading(
        threshold=threshold,
        phrase_threshold=round(_PHRASE * threshold, 3),
        proposal_threshold=_best_f1(proposals),
        region=regions.calibration(),
        proposal=proposals.calibration(),
        presence=presence.calibration(),
    )


def _scenes(world: World, sprites: SpritePack, count: int) -> Iterator[Scene]:
    for place in range(count):
        yield draw_scene(world, sprites, FIRST_SEED + place, "test")


def _searched(finder: DynRefer, scene: Scene, query: FindQuery) -> Candidates:
    assert finder.finding is not None, "the model has no finder"
    return finder.find(list(finder.finding.prepare_each(scene.image, [query])))[0]


def _judge_proposals(proposals: _Judged, found: Candidates, scene: Scene) -> None:
    """Each object's best proposal is right, every other one wrong."""
    left = np.array([each.box for each in scene.objects], np.float32)
    for place in suppress(found.boxes, found.objectness, 0.5).tolist():
        shared = overlaps(found.boxes[place : place + 1], left)[0] if len(left) else np.zeros(1, np.float32)
        right = bool(shared.max(initial=0.0) >= _RIGHT)
        if right:
            left = np.delete(left, int(shared.argmax()), axis=0)
        proposals.scores.append(float(found.objectness[place]))
        proposals.right.append(right)


def _best_f1(proposals: _Judged) -> float:
    """The threshold of the best F1, of the objects that any proposal found."""
    scores, right = np.array(proposals.scores), np.array(proposals.right)
    order = np.argsort(-scores)
    hits = np.cumsum(right[order])
    f1: NDArray[np.float64] = 2 * hits / (np.arange(1, len(hits) + 1) + right.sum())
    return round(float(scores[order][int(f1.argmax())]), 3)


def _is(label: str, box: Sequence[float], scene: Scene) -> bool:
    own = np.array([each.box for each in scene.objects if each.category == label], np.float32).reshape(-1, 4)
    return bool(len(own) and overlaps(np.array([box], np.float32), own).max() >= _RIGHT)


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(description="Fit how the embedded finder's scores are read.")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--apply", action="store_true", help="write the result into the finder's config.json")
    options = parser.parse_args()
    reading = fit_reading(DynRefer.load("embedded", device="cpu"), options.scenes).as_mapping()
    if options.apply:
        path = EMBEDDED / FOLDER / CONFIG
        settings: dict[str, Any] = json.loads(path.read_text("utf-8"))
        replace_text(path, json.dumps({**settings, "reading": reading}, indent=2) + "\n")
    print(json.dumps(reading, indent=2))


if __name__ == "__main__":
    main()
