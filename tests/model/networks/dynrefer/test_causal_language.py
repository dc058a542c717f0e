"""The language decoder with a causal language model: prompt, search, padding, batch and loss.

There are no recorded outputs of the official code with Vicuna: transformers' own LLaMA is the reference here.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from dynrefer.model.errors import ConfigError
from dynrefer.model.loading import open_slots
from dynrefer.model.networks.dynrefer.causal_language import CausalLanguageDecoder
from dynrefer.model.networks.dynrefer.language import IGNORED, LanguageDecoder
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.graphs import NoGraphs
from tests.model.networks.conftest import LLAMA, perturbed, small_config

START, END, PADDING, ROWS = 1, 2, 0, 6

Prompt = tuple[Tensor, Tensor, Tensor]


def decoder(**language: Any) -> LanguageDecoder:
    """Random weights, with an end token that comes soon in some rows and late in others."""
    config = small_config(language_config={**LLAMA, **language}, add_control_memory=False)
    torch.manual_seed(0)
    found = perturbed(DynReferModel(config), 0.2).language
    with torch.no_grad():
        found.model.lm_head.weight.mul_(3.0)
        found.model.lm_head.weight[END].mul_(2.0)
    return found


@pytest.fixture(scope="module", params=[4, 2], ids=["own keys", "shared keys"])
def language(request: pytest.FixtureRequest) -> LanguageDecoder:
    """With as many heads for keys and values as for queries, and with half as many."""
    return decoder(num_key_value_heads=request.param)


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    """Regions that differ; control words of different lengths, begun by the end token, padded on the right."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 90, (ROWS, 6), generator=generator)
    ids[:, 0] = END
    mask = (torch.arange(6) < torch.tensor([[6], [1], [3], [5], [2], [4]])).long()
    return 4 * torch.randn(ROWS, 4, 32, generator=generator), ids * mask, mask


def row_of(prompt: Prompt, row: int) -> Prompt:
    """One region without any padding: what the official code gives its language model in a batch of one."""
    region, ids, mask = prompt
    words = ids[row][mask[row].bool()][None]
    return region[row : row + 1], words, torch.ones_like(words)


def test_the_control_vector_exists_and_is_not_added(language: LanguageDecoder, prompt: Prompt) -> None:
    embeddings, mask = language.prompt(*prompt)
    assert isinstance(language, CausalLanguageDecoder) and language.control_memory.any()
    assert torch.equal(embeddings[:, 4:], language.model.model.embed_tokens(prompt[1]))
    assert torch.equal(embeddings[:, :4], language.projection(prompt[0]))
    assert mask.tolist() == [[1] * 4 + row for row in prompt[2].tolist()]


SETTINGS: tuple[dict[str, Any], ...] = (
    {"num_beams": 2, "length_penalty": 0.0, "repetition_penalty": 1.5},
    {"num_beams": 5, "length_penalty": 1.0, "repetition_penalty": 1.0},
    {"num_beams": 4, "length_penalty": 0.0, "repetition_penalty": 1.5, "num_return_sequences": 3},
    {"num_beams": 1, "length_penalty": 0.0, "repetition_penalty": 1.5},
    {"num_beams": 2, "length_penalty": 0.0, "repetition_penalty": 1.5, "max_new_tokens": 1},
)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(f"{k}={v}" for k, v in settings.items()))
def test_as_transformers_searches_a_single_row(
    settings: dict[str, Any], language: LanguageDecoder, prompt: Prompt
) -> None:
    """Of every row alone, without padding; ours is found in one padded batch."""
    options = {"min_length": 1, "max_new_tokens": 12, **settings}
    count = options.get("num_return_sequences", 1)
    ours = language.generate(*prompt, **options)
    for row in range(ROWS):
        tokens, score = reference(language, row_of(prompt, row), options)
        rows = slice(row * count, (row + 1) * count)
        assert [trimmed(each) for each in ours.tokens[rows, 1:].tolist()] == [trimmed(each) for each in tokens.tolist()]
        if score is not None:
            assert torch.allclose(ours.score[rows], score, atol=1e-4)


def reference(language: LanguageDecoder, prompt: Prompt, options: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """transformers' `generate`: tokens (n, L) without the start token, and the beam search's scores."""
    options, penalty = dict(options), options["repetition_penalty"]
    if options["num_beams"] == 1:
        del options["length_penalty"]  # of beam search only
    embeddings, mask = language.prompt(*prompt)
    found = language.model.generate(
        inputs_embeds=embeddings,
        attention_mask=mask,
        do_sample=False,
        bos_token_id=START,
        pad_token_id=PADDING,
        eos_token_id=END,
        return_dict_in_generate=True,
        output_scores=True,
        # The releases that the official code runs on begin the sequence with the start token, so it is penalised too.
        logits_processor=LogitsProcessorList([_PenalisedStart(penalty)]),
        **options,
    )
    return found.sequences, found.sequences_scores if options["num_beams"] > 1 else None


class _PenalisedStart(RepetitionPenaltyLogitsProcessor):
    """The penalty on the start token, where it has not been written (else transformers adds it itself)."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        start = torch.full((len(scores), 1), START)
        penalised = super().__call__(start, scores)
        written = (input_ids == START).any(dim=1, keepdim=True)
        return torch.where(written, scores, penalised)


def trimmed(tokens: list[int]) -> list[int]:
    """Up to the end token; the padding token reads as the end but does not end a sequence."""
    tokens = [END if each == PADDING else each for each in tokens]
    while tokens and tokens[-1] == END:
        tokens.pop()
    return tokens


def test_rows_end_at_different_steps(language: LanguageDecoder, prompt: Prompt) -> None:
    """Else the comparison above says nothing about rows that leave the batch."""
    lengths = language.generate(*prompt, num_beams=2, max_new_tokens=12).length
    assert lengths.unique().numel() >= 3


def placed(ids: Tensor, mask: Tensor, where: str) -> tuple[Tensor, Tensor]:
    """The same words with three more places of padding: behind them, before them, or between them."""
    rows = []
    for row, seen in zip(ids, mask.bool(), strict=True):
        words, spare = row[seen], len(row) + 3 - int(seen.sum())
        front = {"right": 0, "left": spare, "between": spare // 2}[where]
        cut = 1 if where == "between" else 0
        parts = (words[:cut], row.new_full((front,), -1), words[cut:], row.new_full((spare - front,), -1))
        rows.append(torch.cat(parts))
    found = torch.stack(rows)
    return found.clamp_min(PADDING), (found >= 0).long()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("where", ["right", "left", "between"])
def test_neither_padding_nor_batch_matters(beams: int, where: str, language: LanguageDecoder, prompt: Prompt) -> None:
    """Official batches pad on the left, between the region's tokens and the words."""
    region, ids, mask = prompt
    together = language.generate(region, *placed(ids, mask, where), num_beams=beams, max_new_tokens=12)
    for row in range(ROWS):
        alone = language.generate(*row_of(prompt, row), num_beams=beams, max_new_tokens=12)
        assert trimmed(alone.tokens[0].tolist()) == trimmed(together.tokens[row].tolist())
        assert alone.score[0].item() == pytest.approx(together.score[row].item(), abs=1e-5, rel=1e-5)


def test_an_official_batch_gives_the_same(language: LanguageDecoder, prompt: Prompt) -> None:
    """transformers on one batch as the official code forms it, padded between the region's tokens and the words."""
    region, ids, mask = prompt
    options = {"num_beams": 2, "max_new_tokens": 12, "min_length": 1, "length_penalty": 0.0, "repetition_penalty": 1.5}
    tokens, score = reference(language, (region, *placed(ids, mask, "left")), options)
    ours = language.generate(*prompt, **options)
    assert [trimmed(each) for each in ours.tokens[:, 1:].tolist()] == [trimmed(each) for each in tokens.tolist()]
    assert score is not None and torch.allclose(ours.score, score, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_row_has_the_same_bits_alone_and_in_a_batch(beams: int, language: LanguageDecoder, prompt: Prompt) -> None:
    """Where the padding is the same, as control words are padded to a multiple."""
    together = language.generate(*prompt, num_beams=beams, max_new_tokens=12)
    for row in range(ROWS):
        one = language.generate(*(part[row : row + 1] for part in prompt), num_beams=beams, max_new_tokens=12)
        assert torch.equal(one.logprob_sum[0], together.logprob_sum[row])


@pytest.mark.parametrize("beams", [1, 3])
def test_scores_are_sums_of_log_probabilities(beams: int, language: LanguageDecoder, prompt: Prompt) -> None:
    settings = {"num_beams": beams, "max_new_tokens": 6, "repetition_penalty": 1.0, "length_penalty": 0.0}
    found = language.generate(*prompt, **settings)
    steps = language.logits(*prompt, found.tokens[:, :-1]).log_softmax(-1)
    chosen = steps.gather(2, found.tokens[:, 1:, None]).squeeze(2)
    within = torch.arange(chosen.shape[1]) < found.length[:, None]
    assert torch.allclose(found.logprob_sum, (chosen * within).sum(1), atol=1e-4)


def test_a_written_padding_token_reads_as_the_end(prompt: Prompt) -> None:
    language = decoder()
    with torch.no_grad():
        language.model.lm_head.weight[PADDING].mul_(30.0)
    tokens = language.generate(*prompt, num_beams=1, max_new_tokens=6, repetition_penalty=1.0).tokens
    assert not (tokens == PADDING).any() and (tokens[:, 1:] == END).any()


def test_the_loss_is_of_the_caption_and_its_end_only(language: LanguageDecoder, prompt: Prompt) -> None:
    """As transformers computes it on the official row, padded on the right: tokens, words, caption, end, padding."""
    captions = [[4, 5, END], [6, END], [7, 8, 9, 10, END], [END], [11, END], [12, 13, END]]
    longest = max(map(len, captions))
    labels = torch.tensor([caption + [IGNORED] * (longest - len(caption)) for caption in captions])
    total, count = torch.zeros(()), 0
    for row, caption in enumerate(captions):
        embeddings, _ = language.prompt(*row_of(prompt, row))
        embeddings = torch.cat((embeddings, language.model.model.embed_tokens(torch.tensor([caption]))), dim=1)
        logits = language.model(inputs_embeds=embeddings).logits[0, -len(caption) - 1 : -1]
        total = total + F.cross_entropy(logits, torch.tensor(caption), reduction="sum")
        count += len(caption)
    assert torch.allclose(language.loss(*prompt, labels), total / count, atol=1e-5)


def test_there_are_no_slots(language: LanguageDecoder) -> None:
    assert not language.decodes_in_slots and language.open_slots(4, NoGraphs()) is None
    network = DynReferModel(small_config(language_config=LLAMA))
    assert open_slots(network, torch.device("cuda"), NoGraphs(), free=lambda: 2**34) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"language_config": {**LLAMA, "bos_token_id": 96}}, "language_config.bos_token_id is 96"),
        ({"language_config": {**LLAMA, "pad_token_id": None}}, "language_config.pad_token_id is None"),
        ({"language_config": LLAMA, "tie_language_head": True}, "tie_language_head is True"),
        ({"language_config": {**LLAMA, "num_key_value_heads": 3}}, "num_key_value_heads is 3; it must divide"),
        ({"language_config": {**LLAMA, "head_dim": 7}}, "even rotary dimension"),
        ({"language_config": {"model_type": "gpt2"}}, "'gpt2' is not supported; use t5 or llama"),
    ],
)
def test_unfit_settings_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DynReferModel(small_config(**changes))


def test_saving_and_loading_keep_the_network(tmp_path: Any, prompt: Prompt) -> None:
    network = perturbed(DynReferModel(small_config(language_config=LLAMA, add_control_memory=False)))
    network.save_pretrained(tmp_path)
    again = DynReferModel.from_pretrained(tmp_path).eval()
    assert not again.config.add_control_memory
    assert torch.equal(again.language.generate(*prompt).tokens, network.language.generate(*prompt).tokens)
