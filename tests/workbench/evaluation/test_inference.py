"""Evaluation with the real predictor and the committed model: shared work changes no output."""

from __future__ import annotations

import pytest

from dynrefer.model import DynRefer
from dynrefer.model.types import RegionQuery, Task, ViewPolicy
from dynrefer.workbench.evaluation.drawn_regions import RegionSet, check_vocabulary, world_names
from dynrefer.workbench.evaluation.inference import RECOGNITION, QuerySpec, run_queries
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World


def test_some_tasks_with_the_image_prior_give_the_same_as_all_tasks(world: World) -> None:
    predictor = DynRefer.load("embedded", device="cpu")
    check_vocabulary(predictor, world)
    drawn = RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=9, regions=8)
    together, captions = run_queries(
        predictor,
        drawn,
        [QuerySpec(RECOGNITION, ViewPolicy.IMAGE_PRIOR), QuerySpec((Task.CAPTION,), ViewPolicy.TASK_PRIOR)],
        "",
    )
    names, row = world_names(world), 0
    for scene in drawn.scenes:
        everything = [RegionQuery(obj.box, top_k=1_000, thresholds={Task.TAGS: -1.0}) for obj in scene.objects]
        alone = predictor.describe(scene.image, [obj.box for obj in scene.objects], Task.CAPTION)
        regions = predictor.prepare(scene.image, everything)
        for region, output, caption in zip(regions, predictor.run(regions), alone, strict=True):
            found = predictor.finish(region, output)
            for task in RECOGNITION:
                scores = {label.name: label.score for label in getattr(found, task.value)}
                expected = [scores[name] for name in names[task]]
                assert together.scores[task][row].tolist() == pytest.approx(expected, abs=1e-4)
            assert caption.caption is not None and captions.captions[row] == caption.caption.text
            row += 1
    assert row == len(drawn) == len(captions.captions)
