"""Drawn regions: disjoint scenes, labels in the world's order, queries for no more than needed."""

from __future__ import annotations

import numpy as np
import pytest

from dynrefer.model.types import Task, ViewPolicy
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.drawn_regions import RegionSet, check_vocabulary, stored_as_jpeg
from dynrefer.workbench.evaluation.inference import BATCH_REGIONS, RECOGNITION, QuerySpec, run_queries
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World
from tests.workbench.evaluation.oracle import IMAGE_PRIOR, Oracle


@pytest.fixture(scope="module")
def sprites() -> SpritePack:
    """The shipped pack."""
    return SpritePack.load()


def _seeds(world: World, sprites: SpritePack, seed: int, validation: bool = False) -> set[int]:
    drawn = RegionSet.draw(world, sprites, "test", scenes_seed=seed, regions=30, validation=validation)
    assert len(drawn) >= 30 and len(drawn) - len(drawn.scenes[-1].objects) < 30
    return {scene.seed for scene in drawn.scenes}


def test_no_scene_is_shared(world: World, sprites: SpritePack) -> None:
    sets = [_seeds(world, sprites, seed, validation) for seed in (0, 1, 10**30) for validation in (False, True)]
    assert len(set.union(*sets)) == sum(len(each) for each in sets)
    assert min(set.union(*sets)) >= 10**12  # a training counts up from 10_000_000 times a small number


def test_scenes_as_jpeg_are_the_same_scenes(world: World, sprites: SpritePack) -> None:
    drawn, fine, coarse = (
        RegionSet.draw(world, sprites, "test", scenes_seed=4, regions=20, jpeg_quality=quality)
        for quality in (None, 95, 40)
    )
    assert drawn.objects == fine.objects == coarse.objects
    (first, *_), (near, *_), (far, *_) = drawn.image_regions(), fine.image_regions(), coarse.image_regions()
    off = [np.abs(each.load().astype(int) - first.load()).mean() for each in (near, far)]
    assert near.load().shape == first.load().shape and 0 < off[0] < off[1] < 20


def test_jpeg_halves_the_resolution_of_colours() -> None:
    columns = np.zeros((16, 16, 3), np.uint8)
    columns[:, ::2, 0] = columns[:, 1::2, 2] = 255  # red and blue columns, one pixel wide
    stored = stored_as_jpeg(columns, 100).astype(int)
    assert stored.dtype == int and np.abs(stored[:, ::2] - stored[:, 1::2]).max() < 100


def test_truth_in_the_worlds_order(world: World, sprites: SpritePack) -> None:
    drawn = RegionSet.draw(world, sprites, "test", scenes_seed=4, regions=20)
    obj = drawn.objects[3]
    assert world.categories[drawn.categories[3]].name == obj.category
    assert {world.tags[i] for i in np.flatnonzero(drawn.tags[3])} == set(obj.tags)
    assert drawn.attributes[3].tolist() == world.attribute_targets(obj).tolist()


def test_every_score_is_kept(world: World, sprites: SpritePack, oracle: Oracle) -> None:
    drawn = RegionSet.draw(world, sprites, "test", scenes_seed=0, regions=150)
    (found,) = run_queries(oracle, drawn, [QuerySpec(RECOGNITION, ViewPolicy.IMAGE_PRIOR)], "")
    assert (found.scores[Task.TAGS] == np.where(drawn.tags, 0.9, 0.1)).all()
    assert found.scores[Task.ATTRIBUTES].shape == drawn.attributes.shape
    assert (found.scores[Task.CATEGORIES].argmax(axis=1) == drawn.categories).all()
    assert (found.probabilities[Task.CATEGORIES].max(axis=1) == 0.9).all()
    assert not found.captions
    assert oracle.batches[:-1] == [BATCH_REGIONS] * (len(drawn) // BATCH_REGIONS)
    assert {query.views for query in oracle.queries} == {IMAGE_PRIOR}
    assert all(Task.CAPTION not in (query.tasks or ()) for query in oracle.queries)


def test_specs_that_run_together_are_kept_apart(world: World, sprites: SpritePack, oracle: Oracle) -> None:
    drawn = RegionSet.draw(world, sprites, "test", scenes_seed=0, regions=40)
    oracle.knows = lambda obj, task, views: views != (0.0, 0.0, 0.0)
    specs = [
        QuerySpec((Task.CAPTION,), ViewPolicy.TASK_PRIOR),
        QuerySpec((Task.CATEGORIES,), (0.0, 0.2, 0.3)),
        QuerySpec((Task.CAPTION,), (0.0, 0.0, 0.0)),
    ]
    captions, classes, alone = run_queries(oracle, drawn, specs, "")
    assert [query.views for query in oracle.queries[:3]] == [None, (0.0, 0.2, 0.3), (0.0, 0.0, 0.0)]
    assert captions.captions == [obj.captions[0] for obj in drawn.objects]
    assert (classes.scores[Task.CATEGORIES].argmax(axis=1) == drawn.categories).all()
    assert len(alone.captions) == len(drawn) and not set(alone.captions) & set(captions.captions)


def test_a_model_of_another_world_is_refused(oracle: Oracle) -> None:
    check_vocabulary(oracle, oracle.world)
    oracle.card = type(oracle.card)(
        **{f: getattr(oracle.card, f) for f in oracle.card.__dataclass_fields__ if f != "vocabulary"},
        vocabulary={"tags": oracle.world.tags, "attributes": (), "categories": oracle.world.tags},
    )
    with pytest.raises(DataError, match="oracle does not know the drawn world: its attributes lack"):
        check_vocabulary(oracle, oracle.world)
