"""View policies: what each chooses, and how a model runs with fewer or more views than it fuses."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.inference import QueryResults
from dynrefer.workbench.evaluation.policies import Policy, arrangements, choose, fuse_results, passes, region_only
from dynrefer.workbench.scenes.world import World
from tests.workbench.evaluation.drawn_data import draw_regions
from tests.workbench.evaluation.oracle import PRIORS, Oracle

IMAGE, BOX = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8), (20.0, 10.0, 50.0, 40.0)


def test_what_each_policy_chooses(oracle: Oracle) -> None:
    def views(policy: Policy, count: int, task: Task | None = None, row: int = 0) -> tuple[float, ...]:
        return choose(policy, count, task)(oracle, IMAGE, BOX, row)

    assert [views(Policy.FIXED, count) for count in (2, 3, 4)] == [(0, 1), (0, 0.5, 1), (0, 0.3, 0.7, 1)]
    drawn = [views(Policy.RANDOM, 4, row=row) for row in range(20)]
    assert len(set(drawn)) > 15 and all(len(set(each)) == 4 and each[0] == 0 for each in drawn)
    assert drawn == [views(Policy.RANDOM, 4, row=row) for row in range(20)]
    searched = views(Policy.IMAGE_PRIOR, 4)
    assert searched[0] == 0 and len(searched) == 4 and views(Policy.IMAGE_PRIOR, 2) == searched[:2]
    assert views(Policy.TASK_PRIOR, 3, Task.CAPTION) == PRIORS["caption"]
    assert views(Policy.TASK_PRIOR, 4, Task.ATTRIBUTES) == (*PRIORS["attributes"], 0.2)  # the paper's next
    assert views(Policy.TASK_PRIOR, 1) == region_only(oracle, IMAGE, BOX, 0) == (0.0,)


@pytest.mark.parametrize(
    ("views", "slots", "expected"),
    [
        ((0.0,), 3, ((0.0, 0.0, 0.0),)),
        ((0.0, 0.4), 3, ((0.0, 0.4, 0.4),)),
        ((0.0, 0.4, 1.0), 3, ((0.0, 0.4, 1.0),)),
        ((0.0, 0.1, 0.4, 1.0), 3, ((0.0, 0.1, 0.4), (0.0, 0.1, 1.0), (0.0, 0.4, 1.0))),
        ((0.0, 0.4), 1, ((0.0,),)),
    ],
)
def test_fewer_and_more_views_than_slots(
    views: tuple[float, ...], slots: int, expected: tuple[tuple[float, ...], ...]
) -> None:
    assert arrangements(views, slots) == expected


def test_passes_are_the_arrangements_of_each_region(oracle: Oracle) -> None:
    together = passes(choose(Policy.FIXED, 4), 4, 3)
    assert [each(oracle, IMAGE, BOX, 7) for each in together] == list(arrangements((0.0, 0.3, 0.7, 1.0), 3))


def test_fusing_takes_mean_scores_and_the_likeliest_caption(world: World) -> None:
    regions = draw_regions(world, 4)
    first, second = (QueryResults((Task.CATEGORIES,), regions) for _ in range(2))
    first.scores[Task.CATEGORIES][:], second.scores[Task.CATEGORIES][:] = 1.0, 2.0
    first.captions, second.captions = ["x"] * len(regions), ["y"] * len(regions)
    first.logprobs, second.logprobs = [-1.0, -1.0] * 9, [-2.0, -0.5] * 9
    first.caption_scores, second.caption_scores = [0.5, 0.5] * 9, [0.25, 0.25] * 9
    both = fuse_results([first, second], regions)
    assert (both.scores[Task.CATEGORIES] == 1.5).all() and both.captions[:2] == ["x", "y"]
    assert both.caption_scores[:2] == [0.5, 0.25]
    assert fuse_results([first], regions) is first
