"""Low-rank matrices beside the frozen language model's (arXiv 2106.09685), by the peft library."""

from __future__ import annotations

import warnings

from dynrefer.model.networks.dynrefer.model import DynReferModel

_ATTENTION = ["q", "v"]
_WORDS = ["shared", "lm_head"]


def add_lora(network: DynReferModel, rank: int, alpha: float) -> None:
    """Add trainable matrices to queries, values, word embedding and head of the language model, in place.

    A head that shares its matrix with the embedding is left out, and so is the embedding: merged, one would change
    the other.
    """
    from peft import LoraConfig, inject_adapter_in_model

    tied = network.config.tie_language_head
    targets = _ATTENTION if tied else [*_ATTENTION, *_WORDS]
    # peft types alpha as a whole number but only ever divides by the rank.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0)  # type: ignore[arg-type]
    language = network.language.model
    with warnings.catch_warnings():
        # T5's configuration says that its head is tied even where it is a matrix of its own.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        inject_adapter_in_model(config, language)
    # Encoder and decoder hold the embedding under names of their own, which peft does not follow.
    language.set_input_embeddings(language.shared)


def merge_lora(network: DynReferModel) -> set[str]:
    """Add the products to the matrices beside which they stand and remove them; the names of the changed weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    changed = set()
    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            network.set_submodule(name, module.get_base_layer())
            changed.add(f"{name}.weight")
    language = network.language.model
    language.set_input_embeddings(language.shared)
    return changed
