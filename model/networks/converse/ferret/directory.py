"""A Ferret-v2 in a directory: `config.json` and weights as `save_pretrained` writes them, `tokenizer/` beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.device_memory import CudaMemory
from dynrefer.model.errors import ConfigError, WeightsError
from dynrefer.model.loading import by_library, quiet
from dynrefer.model.model_files import read_json_object
from dynrefer.model.networks.converse.ferret.config import FerretConfig
from dynrefer.model.networks.converse.ferret.converser import TOGETHER, FerretConverser
from dynrefer.model.networks.converse.ferret.network import FerretModel
from dynrefer.model.networks.kernels.onednn import use_onednn
from dynrefer.model.tokenizers import load_tokenizer

CONFIG, TOKENIZER = "config.json", "tokenizer"
_FREE_SHARE = 3  # of a GPU's free memory, one part of so many may hold conversations


def load_ferret(directory: Path, device: torch.device, dtype: torch.dtype) -> FerretConverser:
    """On its device, in this type. Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`, `DeviceMemoryError`."""
    config = read_json_object(directory / CONFIG, "configuration of the converser")
    try:
        known = FerretConfig(**config)
    except ConfigError as error:
        raise ConfigError(f"{str(directory / CONFIG)!r}: {error}") from error
    tokenizer = load_tokenizer(directory / TOKENIZER, known.language_config.get_text_config().vocab_size)
    model = load_model(directory, dtype)
    translate_device_errors(lambda: model.to(device))
    use_onednn(model)
    if device.type != "cuda":
        return FerretConverser(model, tokenizer)
    free = CudaMemory(device).free() // _FREE_SHARE
    return FerretConverser(model, tokenizer, cache_bytes=free, together=TOGETHER)


def load_model(directory: Path, dtype: torch.dtype) -> Any:
    """The network on the CPU, for inference. Raises `WeightsError` for weights that are damaged or do not fit."""
    sentence = f"the converser in {str(directory)!r} cannot be read"

    def load() -> Any:
        return FerretModel.from_pretrained(
            directory, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )

    with quiet():
        model, report = by_library(load, WeightsError, sentence)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(what):
            first = sorted(map(str, report[what]))[0]
            raise WeightsError(f"the weights of the converser in {str(directory)!r} do not fit: {what} {first}.")
    return model.eval().requires_grad_(False)


def save_ferret(model: FerretModel, tokenizer: Any, directory: Path) -> None:
    """Write a directory that `load_ferret` reads."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory / TOKENIZER)
