"""LoRA: where it is put, what it starts as, and that merging changes nothing that the model computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.training.initial_model import add_lora, load_initial_model, merge_lora, prepare_parts
from dynrefer.workbench.training.run_settings import TrainingSettings
from tests.model.networks.conftest import LLAMA, perturbed, small_config
from tests.workbench.training.conftest import write_tiny_model

pytestmark = pytest.mark.training


def logits(network: DynReferModel) -> Tensor:
    """Teacher-forced, of two regions."""
    torch.manual_seed(1)
    region = torch.randn(2, network.config.num_queries, network.config.qformer_config.hidden_size)
    words = torch.tensor([[5, 6, 1], [7, 1, 0]])
    with torch.no_grad():
        return network.language.logits(region, words, (words != 0).long(), torch.tensor([[0, 9, 10], [0, 11, 12]]))


@pytest.mark.parametrize("tied", [False, True])
def test_merging_computes_the_same(tied: bool, tmp_path: Path) -> None:
    network = load_initial_model(str(write_tiny_model(tmp_path / "tiny", tie_language_head=tied))).network
    before, names = logits(network), set(network.state_dict())
    add_lora(network, rank=3, alpha=6.0)
    assert torch.equal(logits(network), before)  # it starts as nothing
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    trained = logits(network)
    assert not torch.allclose(trained, before, atol=1e-3)
    changed = merge_lora(network)
    assert torch.allclose(logits(network), trained, atol=1e-5)
    assert set(network.state_dict()) == names
    parts = {name.split(".")[-2] for name in changed}
    assert parts == ({"q", "v"} if tied else {"q", "v", "shared", "lm_head"})


@pytest.mark.parametrize("tied", [False, True])
def test_a_causal_language_model_is_adapted_too(tied: bool) -> None:
    language = {**LLAMA, "tie_word_embeddings": tied}
    network = perturbed(DynReferModel(small_config(language_config=language, tie_language_head=tied)))
    before = logits(network)
    add_lora(network, rank=3, alpha=6.0)
    assert torch.equal(logits(network), before)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    trained = logits(network)
    changed = merge_lora(network)
    assert not torch.allclose(trained, before, atol=1e-3) and torch.allclose(logits(network), trained, atol=1e-4)
    parts = {name.split(".")[-2] for name in changed}
    assert parts == ({"q_proj", "v_proj"} if tied else {"q_proj", "v_proj", "embed_tokens", "lm_head"})


def test_frozen_positions_are_not_rounded() -> None:
    network = DynReferModel(small_config(language_config=LLAMA))
    turning = network.language.model.model.rotary_emb
    before = turning.inv_freq.clone()
    prepare_parts(network, TrainingSettings(train=Path("none")), frozen_dtype=torch.bfloat16)
    assert network.language.model.lm_head.weight.dtype == torch.bfloat16
    assert turning.inv_freq.dtype == torch.float32 and torch.equal(turning.inv_freq, before)


def test_what_is_trained(tiny_model: Path) -> None:
    network = load_initial_model(str(tiny_model)).network
    prepare_parts(network, TrainingSettings(train=Path("none"), lora_rank=2), frozen_dtype=torch.bfloat16)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    inside = {name for name in trained if name.startswith("language.model.")}
    assert inside and all("lora_" in name for name in inside)
    assert not any(name.startswith(("vision.", "text.", "query_tokens")) for name in trained)
    frozen = {p.dtype for n, p in network.named_parameters() if n.startswith(("vision.", "text."))}
    assert frozen == {torch.bfloat16}
    assert network.query_tokens.dtype == torch.float32
