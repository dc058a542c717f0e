"""Preparation as a worker process does it: plain records in and out, and no torch."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from dynrefer.model import BoxError, PreparationSpec, PreparedRegion, RegionQuery, Task, prepare, upright_pixels
from tests.repository import DOCS, ROOT

SCENE = DOCS / "scene.png"
SPEC = PreparationSpec(3, 64, {"caption": (0.0, 0.4, 0.7), "tags": (0.0, 0.2, 0.7), "attributes": (0.0, 0.2, 0.7)})
QUERIES = [
    RegionQuery((41.0, 2.0, 117.0, 82.0)),
    RegionQuery((-9.0, 89.0, 105.0, 138.0), (Task.CAPTION, Task.TAGS, Task.ATTRIBUTES), ("street",)),
    RegionQuery((57.0, 148.0, 122.0, 229.0), views=(0.0, 0.5, 1.0), thresholds={Task.TAGS: 0.5}),
]
WORKER = """
import pickle, sys
from dynrefer.model import prepare, upright_pixels
scene, queries, spec = pickle.load(sys.stdin.buffer)
prepared = prepare(upright_pixels(scene), queries, spec)
assert not {"torch", "transformers"} & set(sys.modules)
pickle.dump(prepared, sys.stdout.buffer)
"""


def same(one: PreparedRegion, other: PreparedRegion) -> None:
    """Equal to the last byte, times apart."""
    assert (one.query, one.box, one.clipped, one.num_views) == (other.query, other.box, other.clipped, other.num_views)
    for mine, theirs in zip(one.inputs, other.inputs, strict=True):
        assert (mine.plan, mine.tasks, mine.controls) == (theirs.plan, theirs.tasks, theirs.controls)
        assert mine.views.digests == theirs.views.digests
        for a, b in ((mine.views.images, theirs.views.images), (mine.views.boxes, theirs.views.boxes)):
            assert a.dtype == b.dtype and np.array_equal(a, b)


def test_a_worker_without_torch_prepares_the_same_crops() -> None:
    sent = pickle.dumps((str(SCENE), QUERIES, SPEC))
    done = subprocess.run([sys.executable, "-c", WORKER], cwd=ROOT, input=sent, capture_output=True, check=True)
    received = pickle.loads(done.stdout)
    for one, other in zip(received, prepare(upright_pixels(SCENE), QUERIES, SPEC), strict=True):
        same(one, other)


def test_queries_spec_and_regions_pickle() -> None:
    assert pickle.loads(pickle.dumps((QUERIES, SPEC))) == (QUERIES, SPEC)
    for region in prepare(upright_pixels(SCENE), QUERIES, SPEC):
        same(pickle.loads(pickle.dumps(region)), region)


def test_tasks_share_an_input_where_they_share_their_views() -> None:
    every, by_task, fixed = prepare(upright_pixels(SCENE), QUERIES, SPEC)
    assert [each.tasks for each in every.inputs] == [tuple(Task)]
    assert [each.tasks for each in by_task.inputs] == [(Task.CAPTION,), (Task.TAGS, Task.ATTRIBUTES)]
    assert by_task.clipped and by_task.num_views == 6
    assert [[view.t for view in each.plan.views] for each in fixed.inputs] == [[0.0, 0.5, 1.0]]


def test_a_bad_query_is_named_by_its_index() -> None:
    with pytest.raises(BoxError) as caught:
        prepare(upright_pixels(SCENE), [*QUERIES, RegionQuery((5.0, 5.0, 5.0, 9.0))], SPEC)
    assert caught.value.index == len(QUERIES)
