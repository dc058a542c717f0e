"""The recognition decoder: texts are scored independently of each other."""

import pytest
import torch

from dynrefer.model.networks.dynrefer.decoders import RecognitionDecoder, synonym_maximum
from tests.model.networks.conftest import small_config


def decoder(*, normalised: bool) -> RecognitionDecoder:
    """With random weights."""
    torch.manual_seed(0)
    return RecognitionDecoder(small_config(), normalised=normalised).eval().requires_grad_(False)


def test_texts_do_not_see_each_other() -> None:
    for normalised in (False, True):
        recognise = decoder(normalised=normalised)
        region, texts = torch.randn(2, 4, 32), torch.randn(5, 24)
        together = recognise(region, texts)
        assert together.shape == (2, 5)
        alone = torch.cat([recognise(region, texts[i : i + 1]) for i in range(5)], dim=1)
        assert torch.allclose(together, alone, atol=1e-6)


def test_normalised_states_have_length_one() -> None:
    region, texts = torch.randn(2, 4, 32), torch.randn(5, 24)
    lengths = decoder(normalised=True).hidden(region, texts).norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-6)


def test_no_texts_give_no_logits() -> None:
    assert decoder(normalised=True)(torch.randn(2, 4, 32), torch.zeros(0, 24)).shape == (2, 0)


def test_best_synonym() -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0], [0.0, -1.0, 5.0]])
    best = synonym_maximum(logits, torch.tensor([0, 0, 1]), 2)
    assert best.tolist() == [[3.0, -2.0], [0.0, 5.0]]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("regions", "texts"), [(1, 1), (5, 7), (3, 2500), (2, 0), (0, 3)])
def test_prepared_texts_give_the_same_logits(normalised: bool, layers: int, regions: int, texts: int) -> None:
    """`score` folds projections and works in blocks; `forward` is the reference path."""
    torch.manual_seed(2)
    decoder = (
        RecognitionDecoder(small_config(decoder_layers=layers), normalised=normalised).eval().requires_grad_(False)
    )
    for parameter in decoder.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    region, embeddings = torch.randn(regions, 4, 32), torch.randn(texts, 24)
    expected = decoder(region, embeddings)
    found = decoder.score(region, decoder.prepare(embeddings))
    assert found.shape == (regions, texts)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
