"""Masked words on the grounded caption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynrefer.workbench.training.finder.masked_words import MaskedWords
from dynrefer.workbench.training.finder.train import caption_tokenizer

CAPTIONS = ["a red cup. a dog.", "", "a blue ball."]
IMAGE = torch.tensor([0, 0, 2])


@pytest.fixture
def words() -> MaskedWords:
    torch.manual_seed(0)
    return MaskedWords(caption_tokenizer(), 8)


def test_it_learns_to_tell_the_words_from_the_regions(words: MaskedWords) -> None:
    """Two captions differ in a colour; only the region tells which it is."""
    captions, image = ["a red cup.", "a blue cup."], torch.tensor([0, 1])
    regions = torch.eye(2, 8)
    optimiser = torch.optim.Adam(words.parameters(), lr=0.02)
    losses = []
    for step in range(120):
        loss = words(captions, regions, image, np.random.default_rng(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-20:]) < 0.3 < np.mean(losses[:5])


def test_captions_and_images_may_be_empty(words: MaskedWords) -> None:
    regions = torch.randn(3, 8, requires_grad=True)
    loss = words(CAPTIONS, regions, IMAGE, np.random.default_rng(0))
    loss.backward()
    assert loss.isfinite() and regions.grad is not None and regions.grad.isfinite().all() and regions.grad.any()
    assert words(["a dog."], torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64), np.random.default_rng(0)).isfinite()
    assert float(words(["", ""], torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64), np.random.default_rng(0))) == 0


def test_a_caption_sees_the_regions_of_its_own_image_alone(words: MaskedWords) -> None:
    regions = torch.randn(3, 8)
    before = words(CAPTIONS[:1], regions[:2], IMAGE[:2], np.random.default_rng(1))
    # With a further image whose caption is empty, and a region there.
    after = words(["a red cup. a dog.", ""], regions, torch.tensor([0, 0, 1]), np.random.default_rng(1))
    torch.testing.assert_close(before, after)
