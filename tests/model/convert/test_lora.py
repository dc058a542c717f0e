"""LoRA adapters made by peft, merged into the language model: the same logits as with the adapter on top."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dynrefer.model.convert.lora import merge_adapter
from dynrefer.model.convert.plan import ConversionPlan, plan_conversion
from dynrefer.model.convert.weight_files import open_weights
from dynrefer.model.errors import ConversionError
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.model import DynReferModel, stored_layout
from tests.model.networks.conftest import LLAMA, perturbed, small_config

torch.set_num_threads(1)

LANGUAGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "t5": ({}, ["q", "v", "lm_head", "shared"]),
    "llama": ({"language_config": LLAMA, "add_control_memory": False}, ["q_proj", "v_proj", "embed_tokens", "lm_head"]),
}


def written(config: DynReferConfig, path: Path) -> tuple[DynReferModel, ConversionPlan]:
    """A network, and the plan that converts its language model's weights from a file under the official names."""
    network = perturbed(DynReferModel(config))
    official = "llm_model." if config.language_config.model_type == "llama" else "t5_model."
    layout = stored_layout(config)
    stored = {
        official + name: value.clone()
        for name, value in network.language.model.state_dict().items()
        if f"language.model.{name}" in layout.shapes
    }
    save_file(stored, path)
    rest = {name: value for name, value in network.state_dict().items() if not name.startswith("language.model.")}
    return network, plan_conversion([open_weights(path)], config, rest)


def adapter(language: nn.Module, targets: list[str], folder: Path, **changes: Any) -> Path:
    """An adapter of random weights, as peft saves it; the language model is left changed by it."""
    torch.manual_seed(2)
    adapted = peft.PeftModel(language, peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets, **changes))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(folder)
    return folder


def logits(language: Any) -> Tensor:
    """Teacher-forced, of two regions."""
    torch.manual_seed(1)
    words = torch.tensor([[5, 6, 2], [7, 2, 0]])
    with torch.no_grad():
        return language.logits(
            torch.randn(2, 4, 32), words, (words != 0).long(), torch.tensor([[0, 9, 10], [0, 11, 12]])
        )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", LANGUAGES)
def test_merged_weights_give_the_adapters_logits(kind: str, tmp_path: Path) -> None:
    changes, targets = LANGUAGES[kind]
    config = small_config(**changes)
    network, plan = written(config, tmp_path / "weights.safetensors")
    before = logits(network.language)
    folder = adapter(network.language.model, targets, tmp_path / "adapter")
    language = network.language.model
    # T5's encoder and decoder are to look at what peft put in the embedding's place.
    language.set_input_embeddings(language.get_input_embeddings())
    expected = logits(network.language)
    assert not torch.allclose(expected, before, atol=1e-2)
    merged = merge_adapter(folder, plan, config)
    again = DynReferModel(config).eval()
    again.load_state_dict({name: plan.assemble(name) for name in plan.shapes} | merged, strict=False)
    again.tie_weights()
    assert torch.allclose(logits(again.language), expected, atol=1e-4)
    assert all(name.split(".")[-2] in targets for name in merged)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DynReferConfig, ConversionPlan, Path]:
    """A small LLaMA and an adapter of its queries."""
    folder = tmp_path_factory.mktemp("lora")
    config = small_config(**LANGUAGES["llama"][0])
    network, plan = written(config, folder / "weights.safetensors")
    return config, plan, adapter(network.language.model, ["q_proj"], folder / "adapter")


def changed(folder: Path, copy: Path, name: str, change: Any) -> Path:
    shutil.copytree(folder, copy)
    if name.endswith(".json"):
        document = json.loads((copy / name).read_text())
        change(document)
        (copy / name).write_text(json.dumps(document))
    else:
        state = load_file(copy / name)
        change(state)
        save_file(state, copy / name)
    return copy


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("adapter_config.json", lambda d: d.update(peft_type="IA3"), "peft_type 'IA3'; only LORA"),
        ("adapter_config.json", lambda d: d.update(target_modules=["c_attn"]), "does not fit the language model"),
        ("adapter_config.json", lambda d: d.update(r=5), "does not fit the language model"),
        ("adapter_model.safetensors", lambda s: s.pop(next(iter(s))), "has no counterpart"),
        (
            "adapter_model.safetensors",
            lambda s: s.update({"base_model.model.x.lora_A.weight": torch.ones(1)}),
            "x.lora_A",
        ),
        ("adapter_model.safetensors", lambda s: s[next(iter(s))].fill_(float("nan")), "cannot be merged"),
    ],
)
def test_refused_in_one_sentence(
    name: str, change: Any, said: str, made: tuple[DynReferConfig, ConversionPlan, Path], tmp_path: Path
) -> None:
    config, plan, folder = made
    with pytest.raises(ConversionError) as caught:
        merge_adapter(changed(folder, tmp_path / "copy", name, change), plan, config)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_adapter(made: tuple[DynReferConfig, ConversionPlan, Path], tmp_path: Path) -> None:
    config, plan, folder = made
    with pytest.raises(ConversionError, match="no adapter directory"):
        merge_adapter(tmp_path / "nowhere", plan, config)
    with pytest.raises(ConversionError, match="is no adapter as peft writes it"):
        merge_adapter(tmp_path, plan, config)
    shutil.copytree(folder, tmp_path / "half")
    (tmp_path / "half" / "adapter_model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"has no adapter_model\.safetensors"):
        merge_adapter(tmp_path / "half", plan, config)


def test_a_tied_head_cannot_differ_from_its_embedding(tmp_path: Path) -> None:
    config = small_config(
        language_config={**LLAMA, "tie_word_embeddings": True}, tie_language_head=True, add_control_memory=False
    )
    network, plan = written(config, tmp_path / "weights.safetensors")
    with pytest.warns(UserWarning):
        folder = adapter(network.language.model, ["lm_head"], tmp_path / "adapter")
    with pytest.raises(ConversionError, match="which are one matrix in this model"):
        merge_adapter(folder, plan, config)
