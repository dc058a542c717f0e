"""Our search against transformers' own: the same sequences and scores, whatever the settings and the batch."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from dynrefer.model.errors import StoppedError
from dynrefer.model.networks.dynrefer.language import LanguageDecoder
from dynrefer.model.networks.generation.beam_search import WordLimit, highest
from tests.model.networks.generation.conftest import ROWS
from tests.model.networks.generation.reference_generate import reference_generate

SETTINGS: tuple[dict[str, Any], ...] = (
    {"num_beams": 2},
    {"num_beams": 2, "repetition_penalty": 1.0},
    {"num_beams": 3, "length_penalty": 1.0},
    {"num_beams": 3, "length_penalty": -1.0, "min_length": 4},
    {"num_beams": 5, "length_penalty": 2.0, "num_return_sequences": 5},
    {"num_beams": 4, "num_return_sequences": 2, "min_length": 8},
    {"num_beams": 1},
    {"num_beams": 1, "min_length": 6, "repetition_penalty": 1.0, "length_penalty": 1.0},
    {"num_beams": 2, "max_new_tokens": 1},
    {"num_beams": 2, "min_length": 17},
)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(f"{k}={v}" for k, v in settings.items()))
def test_as_transformers_searches(
    settings: dict[str, Any], language: LanguageDecoder, prompt: tuple[Tensor, Tensor, Tensor]
) -> None:
    options = {"max_new_tokens": 16, **settings}
    ours, theirs = language.generate(*prompt, **options), reference_generate(language, *prompt, **options)
    assert ours.tokens.tolist() == theirs.tokens.tolist()
    assert ours.length.tolist() == theirs.length.tolist()
    assert torch.allclose(ours.score, theirs.score, atol=1e-4, rtol=1e-5)
    assert torch.allclose(ours.logprob_sum, theirs.logprob_sum, atol=1e-4, rtol=1e-5)


def test_rows_end_at_different_steps(language: LanguageDecoder, prompt: tuple[Tensor, Tensor, Tensor]) -> None:
    """Else the comparison above says nothing about rows that leave the batch."""
    lengths = language.generate(*prompt, num_beams=2, max_new_tokens=16).length
    assert lengths.unique().numel() >= 3 and lengths.min() < 8


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_a_row_does_not_depend_on_the_others(
    beams: int, language: LanguageDecoder, prompt: tuple[Tensor, Tensor, Tensor]
) -> None:
    # In double precision: with weights as large as these, single precision alone moves a score by 1e-5.
    exact = copy.deepcopy(language).double()
    together = exact.generate(*prompt, num_beams=beams, max_new_tokens=16)
    for row in range(ROWS):
        alone = exact.generate(*(part[row : row + 1] for part in prompt), num_beams=beams, max_new_tokens=16)
        length = int(alone.length[0])
        assert alone.tokens[0].tolist() == together.tokens[row, : length + 1].tolist()
        assert alone.score[0].item() == pytest.approx(together.score[row].item(), abs=1e-6)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_search_can_be_stopped_before_any_step(
    beams: int, language: LanguageDecoder, prompt: tuple[Tensor, Tensor, Tensor]
) -> None:
    checks = 0

    def stop_at_third() -> bool:
        nonlocal checks
        checks += 1
        return checks == 3

    with pytest.raises(StoppedError):
        language.generate(*prompt, stop_at_third, num_beams=beams, min_length=17, max_new_tokens=16)
    assert checks == 3


@pytest.mark.parametrize("size", [96, 640, 1024, 32128])
@pytest.mark.parametrize("count", [1, 4, 10])
def test_the_best_of_a_row(size: int, count: int) -> None:
    scores = torch.randn(3, 2, size, generator=torch.Generator().manual_seed(size))
    scores[..., :20] += 6.0  # several of the best in one block
    scores[0, 0, 5] = float("-inf")
    values, places = highest(scores, count)
    expected = scores.topk(count, dim=-1)
    assert torch.equal(values, expected.values) and torch.equal(places, expected.indices)


@pytest.mark.parametrize("beams", [1, 3, 8])
def test_a_limit_of_words_bounds_every_row(
    beams: int, language: LanguageDecoder, prompt: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Of three tokens two begin a word. What fits the limit is found as without it."""
    vocabulary, end = language.model.config.vocab_size, language.special_tokens.end
    ids = torch.arange(vocabulary)
    starts = ids.remainder(3).ne(2) & ids.ne(end) & ids.ne(language.special_tokens.padding)
    most = torch.arange(ROWS) % 3 + 1
    settings = {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": 16}
    found = language.generate(*prompt, limit=WordLimit(starts, most.clone(), end), **settings)
    words = starts[found.tokens].sum(dim=1).view(ROWS, beams)
    exists = found.logprob_sum.view(ROWS, beams) > -1e6
    assert exists[:, 0].all() and (words <= most[:, None])[exists].all()
    free = language.generate(*prompt, **settings)
    assert (starts[free.tokens].sum(dim=1).view(ROWS, beams) > most[:, None]).any(), "else it says nothing"
    loose = language.generate(*prompt, limit=WordLimit(starts, most + 99, end), **settings)
    assert loose.tokens[::beams].tolist() == free.tokens[::beams].tolist()
    assert torch.allclose(loose.logprob_sum[::beams], free.logprob_sum[::beams], atol=1e-5)
