"""Decoders learn what is judged and are held to what they said before of all else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dynrefer.model.types import Task
from dynrefer.workbench.training.corrections.heads import HeadBatch, HeadTuning
from dynrefer.workbench.training.corrections.words import LISTS
from dynrefer.workbench.training.initial_model import InitialModel, load_initial_model

pytestmark = pytest.mark.training

REGIONS = 4


@pytest.fixture
def initial(model: Path) -> InitialModel:
    torch.manual_seed(0)
    return load_initial_model(str(model))


def tuning(initial: InitialModel, *tasks: Task) -> HeadTuning:
    words = initial.vocabulary
    return HeadTuning(initial.network, words, initial.texts, words, tasks or LISTS).train(False)


def nothing_known(initial: InitialModel) -> HeadBatch:
    words, config = initial.vocabulary, initial.network.config
    torch.manual_seed(1)
    region = torch.randn(REGIONS, config.num_queries, config.qformer_config.hidden_size)
    tables = [
        torch.full((REGIONS, len(names)), -1, dtype=torch.int8)
        for names in (words.categories, words.tags, words.attributes)
    ]
    return HeadBatch(region, tables[0], tables[1], tables[2], torch.zeros(REGIONS, dtype=torch.bool))


def test_where_nothing_is_known_nothing_moves(initial: InitialModel) -> None:
    heads = tuning(initial)
    sum(heads.losses(nothing_known(initial)).values(), torch.zeros(())).backward()
    gradients = [each.grad for each in heads.parameters() if each.grad is not None]
    assert gradients and max(float(each.abs().max()) for each in gradients) < 1e-4


def test_what_is_judged_is_learned_and_the_rest_is_kept(initial: InitialModel) -> None:
    heads, batch = tuning(initial, Task.CATEGORIES), nothing_known(initial)
    batch.categories[0] = 0
    batch.categories[0, 5] = 1
    with torch.no_grad():
        before = initial.network.region_text_decoder(batch.representation, initial.texts.categories)
    optimiser = torch.optim.AdamW([each for each in heads.parameters() if each.requires_grad], lr=1e-3)
    for _ in range(40):
        optimiser.zero_grad()
        sum(heads.losses(batch).values(), torch.zeros(())).backward()
        optimiser.step()
    with torch.no_grad():
        after = initial.network.region_text_decoder(batch.representation, initial.texts.categories)
    gain = (after - before)[:, 5] - (after - before).mean(dim=1)
    assert float(gain[0]) > 3 * float(gain[1:].abs().max())
    assert all(not each.requires_grad for each in initial.network.tag_decoder.parameters())


def test_blending_goes_part_of_the_way(initial: InitialModel) -> None:
    heads = tuning(initial)
    weight = initial.network.tag_decoder.state_dict(keep_vars=True)
    name = next(iter(weight))
    before = weight[name].detach().clone()
    with torch.no_grad():
        weight[name].add_(1.0)
    heads.blend(0.25)
    assert torch.allclose(weight[name], before + 0.25)
