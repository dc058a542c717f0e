"""The language decoder: its prompt, its search and its loss."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.language import IGNORED, LanguageDecoder
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.generation.t5_stepper import word_logits
from tests.model.networks.conftest import SMALL, perturbed, small_config

Prompt = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def language() -> LanguageDecoder:
    """Of a small network with random weights."""
    return perturbed(DynReferModel(small_config())).language


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    """Three regions with control words of different lengths."""
    torch.manual_seed(0)
    ids = torch.tensor([[7, 8, 9, 1], [5, 1, 0, 0], [1, 0, 0, 0]])
    return torch.randn(3, 4, 32), ids, (ids != 0).long()


def test_control_vector_is_added_at_every_control_position(language: LanguageDecoder, prompt: Prompt) -> None:
    embeddings, mask = language.prompt(*prompt)
    words = language.model.shared(prompt[1]) + language.control_memory
    assert torch.equal(embeddings[:, 4:], words)
    assert torch.equal(embeddings[:, :4], language.projection(prompt[0]))
    assert mask.tolist() == [[1] * 4 + row for row in prompt[2].tolist()]


def test_alone_or_in_a_batch(language: LanguageDecoder, prompt: Prompt) -> None:
    together = language.generate(*prompt, num_beams=3, max_new_tokens=6)
    for row in range(3):
        alone = language.generate(*(part[row : row + 1] for part in prompt), num_beams=3, max_new_tokens=6)
        length = int(alone.length[0])
        assert alone.tokens[0, : length + 1].tolist() == together.tokens[row, : length + 1].tolist()
        assert alone.score[0].item() == pytest.approx(together.score[row].item(), abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("penalty", [0.0, 1.0, -1.0])
def test_scores_are_sums_of_log_probabilities(
    beams: int, penalty: float, language: LanguageDecoder, prompt: Prompt
) -> None:
    settings = {"num_beams": beams, "max_new_tokens": 6, "repetition_penalty": 1.0, "length_penalty": penalty}
    found = language.generate(*prompt, **settings)
    steps = language.logits(*prompt, found.tokens[:, :-1]).log_softmax(-1)
    chosen = steps.gather(2, found.tokens[:, 1:, None]).squeeze(2)
    within = torch.arange(chosen.shape[1]) < found.length[:, None]
    total = (chosen * within).sum(1)
    assert torch.allclose(found.logprob_sum, total, atol=1e-4)
    assert torch.allclose(found.score, total / found.length.float() ** penalty, atol=1e-4, rtol=1e-4)


def test_tokens_after_the_end_are_padding(language: LanguageDecoder, prompt: Prompt) -> None:
    found = language.generate(*prompt, num_beams=3, max_new_tokens=12)
    for tokens, length in zip(found.tokens.tolist(), found.length.tolist(), strict=True):
        assert tokens[0] == language.model.config.pad_token_id
        assert not any(tokens[length + 1 :])
        assert language.model.config.eos_token_id not in tokens[1:length]


def test_loss_is_the_cross_entropy_of_the_labels(language: LanguageDecoder, prompt: Prompt) -> None:
    labels = torch.tensor([[4, 5, 1], [6, 1, IGNORED], [1, IGNORED, IGNORED]])
    starts = torch.tensor([[0, 4, 5], [0, 6, 1], [0, 1, 0]])
    logits = language.logits(*prompt, starts)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    assert torch.allclose(language.loss(*prompt, labels), expected)


def test_the_likeliest_tokens_of_bfloat16_weights_have_logits_in_float32() -> None:
    """As a head in float32 would have them; the others are as far away as bfloat16 rounds."""
    config = small_config(language_config={**SMALL["language_config"], "vocab_size": 16_384})
    language = perturbed(DynReferModel(config), 0.2).language.to(torch.bfloat16)
    hidden = torch.randn(3, 2, config.language_config.d_model, dtype=torch.bfloat16)
    exact = F.linear(hidden.float(), language.model.lm_head.weight.float())
    found = word_logits(language.model, hidden)
    likeliest = exact.topk(10, dim=-1).indices
    assert found.dtype == torch.float32
    assert torch.allclose(found.gather(-1, likeliest), exact.gather(-1, likeliest), atol=1e-5)
    assert torch.allclose(found, exact, rtol=2**-7, atol=2**-7)
    rounded = F.linear(hidden, language.model.lm_head.weight).float()
    assert not torch.allclose(rounded.gather(-1, likeliest), exact.gather(-1, likeliest), atol=1e-3)
