"""The losses of the finder, each of which can be switched off."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from dynrefer.model.networks.finder.network import STRIDE, FinderNetwork, places_of
from dynrefer.workbench.training.finder.assignment import assign, middle_places
from dynrefer.workbench.training.finder.losses import LossWeights, finder_losses, overlaps
from dynrefer.workbench.training.finder.masked_words import MaskedWords
from dynrefer.workbench.training.finder.samples import FinderSamples
from dynrefer.workbench.training.finder.settings import LOSSES, UNUSUAL, stages, switched
from dynrefer.workbench.training.finder.train import caption_tokenizer, text_embeddings
from tests.workbench.training.finder.conftest import TINY

ALL = LossWeights(cross_image=1.0, masked_words=1.0)


def test_overlaps_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    truth = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0]])
    iou, generalised = overlaps(boxes, truth)
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(generalised, torch.tensor([1 / 3, -1 / 3]))  # the second hull is a third empty


def test_places_answer_for_the_object_whose_middle_is_near() -> None:
    boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [28.0, 28.0, 36.0, 36.0], [2.0, 50.0, 6.0, 54.0]])
    found = assign(boxes, torch.tensor([0, 0, 0]), 8, 8)
    by_place = {
        (row, column): each
        for row, column, each in zip(found.row.tolist(), found.column.tolist(), found.object.tolist(), strict=True)
    }
    assert set(found.object.tolist()) == {0, 1, 2}  # each has a place at least
    points = places_of(8, 8)
    for (row, column), each in by_place.items():
        x1, y1, x2, y2 = boxes[each].tolist()
        x, y = points[row, column].tolist()
        assert abs(x - (x1 + x2) / 2) <= max(STRIDE, 0.16 * (x2 - x1))
        assert abs(y - (y1 + y2) / 2) <= max(STRIDE, 0.16 * (y2 - y1))
    assert not len(assign(boxes[:0], torch.empty(0, dtype=torch.int64), 8, 8).row)


def test_every_object_has_places_and_its_middle_one() -> None:
    boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [40.0, 40.0, 46.0, 46.0], [0.0, 0.0, 16.0, 16.0]])
    where = assign(boxes, torch.tensor([0, 0, 1]), 8, 8)
    objects, places = middle_places(where)
    assert objects.tolist() == [0, 1, 2] and where.object[places].tolist() == [0, 1, 2]
    assert where.image[places].tolist() == [0, 0, 1]
    assert (int(where.row[places[1]]), int(where.column[places[1]])) == (5, 5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_does_not_count_is_not_there(name: str, samples: FinderSamples, names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    network, words = FinderNetwork(TINY), MaskedWords(caption_tokenizer(), TINY.embedding)
    batch = samples.batch(0, 64)
    maps, vectors = network(batch.pixels), network.name_vectors(text_embeddings(names))
    weights = replace(ALL, **{name: 0.0})
    found = finder_losses(network, maps, batch, vectors, weights, words, np.random.default_rng(0))
    assert set(found) == set(LOSSES) - {name} and all(value.isfinite() for value in found.values())


def test_a_batch_without_objects_gives_finite_losses(samples: FinderSamples, names: tuple[str, ...]) -> None:
    network, words = FinderNetwork(TINY), MaskedWords(caption_tokenizer(), TINY.embedding)
    batch = samples.batch(0, 64)
    empty = replace(
        batch,
        boxes=batch.boxes[:0],
        labels=batch.labels[:0],
        image=batch.image[:0],
        owner=torch.full_like(batch.owner, -1),
        captions=[""] * 4,
    )
    vectors = network.name_vectors(text_embeddings(names))
    losses = finder_losses(network, network(batch.pixels), empty, vectors, ALL, words, np.random.default_rng(0))
    assert all(value.isfinite() for value in losses.values()), losses


def test_switches_change_every_stage_and_drop_empty_ones() -> None:
    plan = stages()
    assert switched(plan) == plan and len(plan) == 4
    assert {each.name for each in fields(LossWeights)} == set(LOSSES)
    more = switched(plan, list(UNUSUAL))
    assert [stage.weights.cross_image > 0 for stage in more] == [True, True, False, True]
    assert [stage.name for stage in switched(plan, without=["mask"])] == ["objects", "detector", "all"]
    assert switched(plan, without=LOSSES) == ()
