"""The model that a run starts from, which of its parts are trained, and LoRA.

Source of the trained parts: the released code's list of trained parameters. LoRA: arXiv 2106.09685, by peft.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynrefer.model.loading import EMBEDDED, load_model
from dynrefer.model.networks.dynrefer.config import DynReferConfig, preset, vision_width
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.tokenizers import TEXT_TOKENIZER, load_tokenizer
from dynrefer.model.vocabulary import VOCABULARY_FILE, TextEmbeddings, Vocabulary, embed_vocabulary
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.run_settings import TrainingSettings

TRAINED = (
    *("align.", "fusion.", "qformer.", "tag_decoder.", "region_text_decoder."),
    *("region_text_temperature", "region_text_bias", "language.projection.", "language.control_memory"),
)
# By the language model's type. The official code looks for T5's names in LLaMA too, where nothing has them.
_LORA_ATTENTION = {"t5": ["q", "v"], "llama": ["q_proj", "v_proj"]}
_LORA_WORDS = {"t5": ["shared", "lm_head"], "llama": ["embed_tokens", "lm_head"]}
_TOWERS = {"vision": "vision.", "language": "language.model."}


@dataclass(frozen=True)
class InitialModel:
    """directory: its files. network: float32 on the CPU, all frozen. texts: embeddings of `vocabulary`."""

    directory: Path
    network: DynReferModel
    vocabulary: Vocabulary
    texts: TextEmbeddings
    text_tokenizer: Any
    language_tokenizer: Any


def load_initial_model(init: str, vocabulary_file: Path | None = None, preset_name: str | None = None) -> InitialModel:
    """Load "embedded" or a model directory for training.

    vocabulary_file: a vocabulary.json in place of the model's; the model's text tower embeds its texts. preset_name:
    the preset whose sizes the model must have. Raises what `dynrefer.model.loading.load_model` raises, and
    `SettingError` for a vocabulary file of another name, an unknown preset or one of other sizes.
    """
    loaded = load_model(init, device="cpu", dtype="float32", evidence=False)
    if preset_name is not None:
        _check_preset(preset_name, loaded.network.config, init)
    directory = EMBEDDED if init == "embedded" else Path(init)
    tokenizer = load_tokenizer(directory / TEXT_TOKENIZER, loaded.network.config.text_config.vocab_size)
    vocabulary, texts = loaded.vocabulary, loaded.texts
    if vocabulary_file is not None:
        if vocabulary_file.name != VOCABULARY_FILE:
            raise SettingError(f"--vocabulary {vocabulary_file} must be a file named {VOCABULARY_FILE}.")
        vocabulary = Vocabulary.load(vocabulary_file.parent)
        texts = embed_vocabulary(loaded.network, tokenizer, vocabulary)
    if not vocabulary.tags:
        raise SettingError("the vocabulary has no tags, and the tag decoder learns from them; give --vocabulary.")
    return InitialModel(directory, loaded.network, vocabulary, texts, tokenizer, loaded.language_tokenizer)


def _check_preset(name: str, config: DynReferConfig, init: str) -> None:
    wanted = preset(name)
    sizes = [
        (c.view_size, c.num_queries, vision_width(c), c.qformer_config.hidden_size, c.language_config.d_model)
        for c in (wanted, config)
    ]
    if sizes[0] != sizes[1]:
        raise SettingError(f"--preset {name} does not match --init {init}, a model of other sizes; leave --preset out.")


def prepare_parts(network: DynReferModel, settings: TrainingSettings, *, frozen_dtype: torch.dtype) -> None:
    """Choose what is trained, in place: the recipe's parts in float32, the towers frozen in `frozen_dtype`.

    With LoRA this draws random numbers: seed first.
    """
    prefixes = (*TRAINED, *(_TOWERS[part] for part in settings.unfreeze))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    if network.config.num_views == 1:  # there is nothing to align
        network.align.requires_grad_(False)
    for part, tower in (("vision", network.vision), ("text", network.text), ("language", network.language.model)):
        if part not in settings.unfreeze:
            _freeze_in(tower, frozen_dtype)
    if settings.lora_rank:
        add_lora(network, settings.lora_rank, settings.lora_alpha or 2.0 * settings.lora_rank)
        for parameter in network.language.model.parameters():
            if parameter.requires_grad:  # peft gives them the dtype of the matrices they are added to
                parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        for part in (network.language.model, network.qformer, *([network.vision.tower] * train_vision(settings))):
            _checkpoint_gradients(part)


def _freeze_in(tower: nn.Module, dtype: torch.dtype) -> None:
    """Cast a tower. The frequencies of LLaMA's positions stay as they are: rounded, they would shift every position."""
    kept = {name: value for name, value in tower.named_buffers() if name.endswith("inv_freq")}
    nn.Module.to(tower, dtype)
    for name, value in kept.items():
        parent, _, own = name.rpartition(".")
        setattr(tower.get_submodule(parent), own, value)


def train_vision(settings: TrainingSettings) -> bool:
    """Whether gradients reach the vision tower."""
    return "vision" in settings.unfreeze


def _checkpoint_gradients(part: Any) -> None:
    if not getattr(part, "supports_gradient_checkpointing", False):
        return
    # The newer name first: transformers 6 drops the other.
    enable = getattr(part, "activation_checkpointing_enable", None) or part.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def add_lora(network: DynReferModel, rank: int, alpha: float) -> None:
    """Add trainable matrices to queries, values, word embedding and head of the language model, in place.

    If the head shares its matrix with the embedding, both are left out: merging one would change the other.
    """
    from peft import LoraConfig, inject_adapter_in_model

    tied, kind = network.config.tie_language_head, network.config.language_config.model_type
    targets = _LORA_ATTENTION[kind] if tied else [*_LORA_ATTENTION[kind], *_LORA_WORDS[kind]]
    # peft types alpha as an int, but only divides it by the rank.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0)  # type: ignore[arg-type]
    language = network.language.model
    with warnings.catch_warnings():
        # T5's configuration says that its head is tied even where the head has its own matrix.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        inject_adapter_in_model(config, language)
    # T5's encoder and decoder also hold the embedding, under other names, which peft does not follow.
    language.set_input_embeddings(language.get_input_embeddings())


def merge_lora(network: DynReferModel) -> set[str]:
    """Merge LoRA's matrices into the weights and remove them; returns the names of the changed weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    changed = set()
    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            network.set_submodule(name, module.get_base_layer())
            changed.add(f"{name}.weight")
    language = network.language.model
    language.set_input_embeddings(language.get_input_embeddings())
    return changed
