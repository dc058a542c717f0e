"""Captions of the shipped model, decoded in slots as on a GPU."""

from dataclasses import replace

import pytest
import torch

from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.networks.kernels.graphs import NoGraphs
from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import RegionQuery, Task
from tests.repository import DOCS

BOXES = [(41.0, 2.0, 117.0, 82.0), (50.0, 89.0, 105.0, 138.0), (57.0, 148.0, 122.0, 229.0), (0.0, 0.0, 250.0, 200.0)]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("embedded", device="cpu", dtype="float32")


def test_a_cpu_has_no_slots(loaded: LoadedModel) -> None:
    assert loaded.slots is None


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_in_slots_the_same_captions(rows: int, loaded: LoadedModel) -> None:
    """With fewer rows than regions, and with more."""
    with_slots = replace(loaded, slots=loaded.network.language.open_slots(rows, NoGraphs()))
    regions = DynRefer(loaded).prepare(upright_pixels(DOCS / "scene.png"), [RegionQuery(box) for box in BOXES])
    inputs = [each for region in regions for each in region.inputs if Task.CAPTION in each.tasks]
    expected, found = (
        [output[Task.CAPTION] for output in run_batch(each, inputs, FeatureCache(64 << 20), None).outputs]
        for each in (loaded, with_slots)
    )
    assert len(found) == len(BOXES)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.tokens, ours.length) == (theirs.tokens, theirs.length)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        assert ours.logprob_sum == pytest.approx(theirs.logprob_sum, abs=1e-4)
