"""A model directory -> the network on its device. Strict: no missing and no unexpected tensors, no guesses."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from dynrefer.model.errors import ConfigError, DeviceError, ModelNotFoundError, WeightsError
from dynrefer.model.evidence.evidence import Evidence
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.decoders import PreparedTexts
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.batch_invariance import is_batch_invariant
from dynrefer.model.networks.kernels.onednn import use_onednn
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary

EMBEDDED = Path(__file__).parent / "embedded"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class PreparedVocabulary:
    """tags, attributes (by prompt), categories: ready for `RecognitionDecoder.score`. attribute_owner: (P,) int64."""

    tags: PreparedTexts
    attributes: PreparedTexts
    categories: PreparedTexts
    attribute_owner: Tensor


@dataclass(frozen=True)
class LoadedModel:
    """A network on its device, with everything that inference needs.

    texts: on the network's device, in its dtype. language_tokenizer: encodes control words, decodes captions.
    region_text_scale, region_text_bias: the head's trained exp(temperature) and bias, as plain numbers, because results
    are finished on threads that do not own the device.
    batch_invariant: what the probe at load found; see `kernels/batch_invariance.py`.
    evidence: of photographs, where the model has it.
    """

    network: DynReferModel
    vocabulary: Vocabulary
    texts: TextEmbeddings
    language_tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    region_text_scale: float
    region_text_bias: float
    batch_invariant: bool
    evidence: Evidence | None = None

    @cached_property
    def prepared(self) -> PreparedVocabulary:
        """Parts of the decoders that depend on the vocabulary alone; computed at first use, on the device thread."""
        heads = self.network.region_text_decoder
        return PreparedVocabulary(
            self.network.tag_decoder.prepare(self.texts.tags),
            heads.prepare(self.texts.attributes),
            heads.prepare(self.texts.categories),
            torch.tensor(self.vocabulary.attribute_owner, dtype=torch.int64, device=self.device),
        )


def load_model(
    model: str | Path, *, device: str, dtype: str, cpu_kernels: str = "auto", evidence: bool = True
) -> LoadedModel:
    """model: "embedded" or a directory. device: auto, cpu, cuda, cuda:N. dtype: auto, float32, bfloat16.

    auto: CUDA in bfloat16 where there is a GPU, else the CPU in float32.
    cpu_kernels: the library of linear layers on a CPU; see `kernels.onednn.use_onednn`.
    evidence: false to leave the model's evidence of photographs out, which `workbench/evidence/gate.py` fits.
    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`, `DeviceError`.
    """
    directory = _directory(model)
    on = pick_device(device)
    precision = pick_dtype(dtype, on)
    config = _config(directory)
    vocabulary = Vocabulary.load(directory)
    texts = TextEmbeddings.load(directory)
    texts.check(vocabulary, config.text_config.projection_dim)
    network = _network(directory, config, on, precision)
    use_onednn(network, cpu_kernels)
    moved = {name: getattr(texts, name).to(on, precision) for name in ("tags", "attributes", "categories")}
    return LoadedModel(
        network,
        vocabulary,
        TextEmbeddings(**moved),
        _tokenizer(directory),
        on,
        precision,
        region_text_scale=math.exp(float(network.region_text_temperature)),
        region_text_bias=float(network.region_text_bias),
        batch_invariant=is_batch_invariant(network, min(map(len, moved.values()))),
        evidence=_evidence(directory, config) if evidence else None,
    )


def _evidence(directory: Path, config: DynReferConfig) -> Evidence | None:
    """It computes on the CPU, whatever the network's device: as many threads as torch has."""
    if config.evidence is None:
        return None
    return Evidence.load(directory, config.evidence, torch.get_num_threads())


def pick_device(name: str) -> torch.device:
    """Raises `DeviceError` for a device that this machine does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name!r} was requested, but no CUDA GPU is visible; use --device cpu or auto.")
    if device.index is not None and device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} was requested, but only {torch.cuda.device_count()} GPU(s) are visible.")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Raises `DeviceError` for an unknown dtype."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise DeviceError(f"dtype {name!r} is not one of auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def _directory(model: str | Path) -> Path:
    directory = EMBEDDED if str(model) == "embedded" else Path(model)
    if not os.path.isdir(directory):  # unlike Path.is_dir, it does not raise where a parent may not be read
        raise ModelNotFoundError(
            f"there is no model directory {str(model)!r}; give 'embedded' or a converted directory."
        )
    _refuse_unreadable(directory)
    if not (directory / "config.json").is_file():
        raise ModelNotFoundError(f"the model directory {str(model)!r} is empty or has no config.json.")
    return directory


def _refuse_unreadable(directory: Path) -> None:
    """Raise for a file that this user may not read: a mounted directory often belongs to another user."""
    for path in (directory, *sorted(directory.rglob("*"))):
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise ModelNotFoundError(
                f"{str(path)!r} may not be read by user {os.getuid()}: change its owner or its permissions."
            )


def _config(directory: Path) -> DynReferConfig:
    path = directory / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8 or not JSON
        raise ConfigError(f"{path} is not valid JSON.") from error
    if not isinstance(data, dict) or data.get("model_type") != DynReferConfig.model_type:
        raise ConfigError(f"{path} does not describe a DynRefer model (model_type must be 'dynrefer').")
    try:
        return DynReferConfig.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:  # transformers' own checks of a part
        raise ConfigError(
            f"{path} holds a value that is invalid for its part of the model: {_first_line(error)}"
        ) from error


def _network(directory: Path, config: DynReferConfig, device: torch.device, dtype: torch.dtype) -> DynReferModel:
    try:
        with _quiet():
            # With the loading info it returns a pair, which its annotations do not say.
            found: Any = DynReferModel.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                device_map={"": str(device)} if device.type == "cuda" else None,
                output_loading_info=True,
                use_safetensors=True,
            )
    except OSError as error:
        raise ModelNotFoundError(
            f"the model directory {str(directory)!r} has no readable safetensors weights."
        ) from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise WeightsError(f"the weights in {str(directory)!r} cannot be read: {_first_line(error)}") from error
    network, report = found
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report.get(what):
            first = sorted(map(str, report[what]))[0]
            raise WeightsError(f"the weights in {str(directory)!r} do not fit config.json: {what} {first}.")
    loaded: DynReferModel = network.eval().requires_grad_(False)
    return loaded


def _tokenizer(directory: Path) -> Any:
    path = directory / "language_tokenizer"
    # Without either file transformers silently makes a tokenizer of the special tokens alone.
    if not any((path / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        raise ModelNotFoundError(f"the model directory {str(directory)!r} has no language_tokenizer.")
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, LookupError) as error:
        raise WeightsError(f"the language_tokenizer of {str(directory)!r} cannot be read.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and tables on standard error: what they report becomes our errors."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
