"""A LoRA adapter of the language model, merged into its weights by peft: what is served needs no peft.

LoRA: arXiv 2106.09685. The adapter is a folder as peft's `save_pretrained` writes it, made for the language model alone
(`LlamaForCausalLM`, `T5ForConditionalGeneration`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.convert.weight_files import open_weights
from dynrefer.model.errors import ConversionError, ModelError
from dynrefer.model.model_files import read_json_object

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.convert.plan import ConversionPlan
    from dynrefer.model.networks.dynrefer.config import DynReferConfig

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "language.model."


def merge_adapter(adapter: Path, plan: ConversionPlan, config: DynReferConfig) -> dict[str, Tensor]:
    """The language model's weights that the adapter changes: our name -> tensor, in the type that its source has.

    The language model is in memory meanwhile, with the weights that change twice.

    Raises `ConversionError` if peft is missing, if the folder holds no LoRA adapter, or one that does not fit: every
    tensor of the adapter must have its place and the reverse.
    """
    peft = _peft()
    settings = _settings(adapter, peft)
    file = open_weights(adapter / WEIGHTS_FILE)
    language = _language_model(plan, config)
    before = {name: value.data_ptr() for name, value in language.state_dict().items()}
    with warnings.catch_warnings():
        # On tied matrices, which are looked at below, and on names of transformers that peft still calls.
        for kind in (UserWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        try:
            adapted = peft.PeftModel(language, settings)
            report = peft.set_peft_model_state_dict(adapted, {name: file.read(name) for name in file.shapes})
        except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            sentence = " ".join(str(error).split())[:200].rstrip(".")
            raise ConversionError(f"the adapter {adapter} does not fit the language model: {sentence}.") from error
        lacking = [name for name in report.missing_keys if "lora_" in name]
        if strange := [*report.unexpected_keys, *lacking]:
            raise ConversionError(
                f"the adapter {adapter} does not fit the language model: {strange[0]!r} has no counterpart."
            )
        try:
            merged = adapted.merge_and_unload(safe_merge=True)
        except ValueError as error:  # NaN or infinity
            raise ConversionError(f"the adapter {adapter} cannot be merged: {error}") from error
    changed = {name: value for name, value in merged.state_dict().items() if value.data_ptr() != before.get(name)}
    if config.tie_language_head and "lm_head.weight" in changed:
        raise ConversionError(
            f"the adapter {adapter} changes the embedding or the head, which are one matrix in this model: an adapter "
            "of one cannot be merged without changing the other."
        )
    return _stored(changed, adapter, plan)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConversionError("--lora needs the package peft: pip install 'dynrefer[lora]'.") from error
    return peft


def _settings(adapter: Path, peft: Any) -> Any:
    """The adapter's configuration, as an object of peft's."""
    if not adapter.is_dir():
        raise ConversionError(f"there is no adapter directory {adapter} (--lora).")
    try:
        document = read_json_object(adapter / CONFIG_FILE, "adapter's configuration")
    except ModelError as error:
        raise ConversionError(f"{adapter} is no adapter as peft writes it: {error}") from error
    kind = document.get("peft_type")
    if kind != "LORA":
        raise ConversionError(f"{adapter / CONFIG_FILE} has the peft_type {kind!r:.40}; only LORA is read.")
    if not (adapter / WEIGHTS_FILE).is_file():
        raise ConversionError(f"{adapter} has no {WEIGHTS_FILE}; save the adapter with peft's save_pretrained.")
    try:
        return peft.LoraConfig.from_pretrained(adapter)
    except (TypeError, ValueError, KeyError) as error:
        raise ConversionError(f"{adapter / CONFIG_FILE} cannot be read by peft: {str(error)[:200]}.") from error


def _language_model(plan: ConversionPlan, config: DynReferConfig) -> Any:
    """With the weights of the plan, in the types that they have."""
    import torch
    from transformers import initialization as init

    from dynrefer.model.networks.dynrefer.causal_language import language_decoder

    with torch.device("meta"), init.no_init_weights():
        language = language_decoder(copy.deepcopy(config)).model  # peft writes into the configuration
    state = {name.removeprefix(_PREFIX): plan.assemble(name) for name in plan.shapes if name.startswith(_PREFIX)}
    language.load_state_dict(state, strict=False, assign=True)  # what is tied to another is not stored
    language.set_input_embeddings(language.get_input_embeddings())  # T5's encoder and decoder share it
    if config.tie_language_head:
        language.lm_head.weight = language.get_input_embeddings().weight
    return language.requires_grad_(False)


def _stored(changed: Mapping[str, Tensor], adapter: Path, plan: ConversionPlan) -> dict[str, Tensor]:
    """Those of the changed weights that are stored, under our names; the others must be names of the same weights."""
    found = {f"{_PREFIX}{name}": value for name, value in changed.items()}
    whole = {name: value for name, value in found.items() if name in plan.shapes}
    pointers = {value.data_ptr() for value in whole.values()}
    for name, value in found.items():
        if value.data_ptr() not in pointers:
            raise ConversionError(f"the adapter {adapter} adds {name!r}, for which the model has no place.")
    if not whole:
        raise ConversionError(f"the adapter {adapter} changes nothing.")
    return whole
