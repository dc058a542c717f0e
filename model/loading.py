"""A model directory -> the network on its device. Strict: no missing and no unexpected tensors, no guesses."""

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.utils import logging as transformers_logging

from dynrefer.model.asked_words import AskedWords
from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.device_memory import CudaMemory
from dynrefer.model.errors import ConfigError, DeviceError, ModelError, ModelNotFoundError, WeightsError
from dynrefer.model.evidence.evidence import Evidence
from dynrefer.model.evidence.word_placement import WordPlacement
from dynrefer.model.gc_pause import gc_paused
from dynrefer.model.model_files import FLOATS, INTEGERS, StoredTensor, read_header, read_json_object
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.inference import Inference
from dynrefer.model.networks.dynrefer.model import DynReferModel, stored_layout
from dynrefer.model.networks.generation.slots import DecodingSlots
from dynrefer.model.networks.kernels.batch_invariance import is_batch_invariant
from dynrefer.model.networks.kernels.choice import choose_kernels
from dynrefer.model.networks.kernels.cuda_graphs import CudaGraphs
from dynrefer.model.networks.kernels.graphs import Graphs, NoGraphs
from dynrefer.model.networks.kernels.streams import current_device
from dynrefer.model.tokenizers import LANGUAGE_TOKENIZER, TEXT_TOKENIZER, load_tokenizer
from dynrefer.model.translations import NO_TRANSLATIONS, Translations
from dynrefer.model.vocabulary import PromptTemplates, TextEmbeddings, Vocabulary

EMBEDDED = Path(__file__).parent / "embedded"
WEIGHTS_FILE = "model.safetensors"
# What recording work on a GPU may cost at start: seconds, and a share of the memory that the weights leave.
GRAPHS_S, GRAPHS_SHARE = 8.0, 0.125
SLOTS_SHARE = 0.25  # of the memory that the weights leave, for the caches of captions
DECODING_ROWS = 64  # captions that a GPU decodes together: up to here a step's time is mostly that of reading weights
# What SentencePiece and byte-level tokenizers write in front of a word, and what is no word behind it.
_WORD_MARKS, _PUNCTUATION = ("\u2581", "\u0120"), tuple(".,;:!?'\"-()")
Result = TypeVar("Result")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedModel:
    """A network on its device, with everything that inference needs.

    texts: on the network's device, in its dtype. language_tokenizer: encodes control words, decodes captions.
    region_text_scale, region_text_bias: the head's trained exp(temperature) and bias, as plain numbers, because results
    are finished on threads that do not own the device.
    batch_invariant: what the probe at load found; see `kernels/batch_invariance.py`.
    evidence: of photographs, where the model has it.
    slots: where captions are decoded; None on a CPU, where a search of each batch is faster.
    graphs: where work on a GPU is recorded.
    text_tokenizer: encodes texts of requests for the text tower; None where none are asked.
    translations: of the vocabulary's words.
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
    slots: DecodingSlots | None = None
    graphs: Graphs = NoGraphs()
    text_tokenizer: Any = None
    translations: Translations = NO_TRANSLATIONS

    @cached_property
    def word_starts(self) -> torch.Tensor:
        """Which tokens of the language model begin a word, (Y,) bool on the device; punctuation does not."""
        size = self.network.config.language_config.vocab_size
        pieces = self.language_tokenizer.convert_ids_to_tokens(list(range(len(self.language_tokenizer))))
        starts = [piece[:1] in _WORD_MARKS and piece[1:] not in _PUNCTUATION for piece in pieces[:size]]
        return torch.tensor(starts + [False] * (size - len(starts)), device=self.device)

    @cached_property
    def inference(self) -> Inference:
        """The network's parts as a batch calls them, on the device thread."""
        return Inference(self.network, self.texts, self.vocabulary.attribute_owner)

    @cached_property
    def asked_words(self) -> AskedWords:
        """What the words of requests mean to it."""
        prompts = PromptTemplates.from_mapping(self.network.config.prompts)
        if self.evidence is None:
            return AskedWords(self.vocabulary, prompts)
        things = frozenset((*self.vocabulary.categories, *self.evidence.category_names))
        placement = WordPlacement.load(self.evidence.nouns, self.vocabulary.categories, self.evidence.names)
        return AskedWords(self.vocabulary, prompts, placement, things)


def load_model(
    model: str | Path,
    *,
    device: str,
    dtype: str,
    cpu_kernels: str = "auto",
    cuda_graphs: bool = True,
    evidence: bool = True,
) -> LoadedModel:
    """model: "embedded" or a directory. device: auto, cpu, cuda, cuda:N. dtype: auto, float32, bfloat16.

    auto: CUDA in bfloat16 where there is a GPU, else the CPU in float32.
    cpu_kernels: the library of linear layers on a CPU; see `kernels.onednn.use_onednn`.
    cuda_graphs: on a GPU, whether work is recorded and replayed.
    evidence: false to leave the model's evidence of photographs out, which `workbench/evidence/gate.py` fits.
    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`, `DeviceError`.
    """
    directory = model_directory(model)
    on = pick_device(device)
    precision = pick_dtype(dtype, on)
    config = _config(directory)
    vocabulary = Vocabulary.load(directory)
    texts = TextEmbeddings.load(directory)
    texts.check(vocabulary, config.text_config.projection_dim)
    network = _network(directory, config, on, precision)
    choose_kernels(network, on, cpu_kernels)
    moved = {name: getattr(texts, name).to(on, precision) for name in ("tags", "attributes", "categories")}
    loaded = LoadedModel(
        network,
        vocabulary,
        TextEmbeddings(**moved),
        _tokenizer(directory / LANGUAGE_TOKENIZER, config.language_config.vocab_size),
        on,
        precision,
        region_text_scale=_region_text_scale(network, directory),
        region_text_bias=float(network.region_text_bias),
        batch_invariant=_is_batch_invariant(network, min(map(len, moved.values())), directory),
        evidence=_evidence(directory, config) if evidence else None,
        text_tokenizer=_tokenizer(directory / TEXT_TOKENIZER, config.text_config.vocab_size),
        translations=Translations.load(directory),
    )
    return for_device(loaded, cuda_graphs=cuda_graphs)


def for_device(loaded: LoadedModel, *, cuda_graphs: bool = True) -> LoadedModel:
    """The model with slots for its captions where its device decodes in slots, and with what a GPU runs often recorded.

    What gains most is recorded first, for there is a budget.
    """
    if loaded.device.type != "cuda" or not cuda_graphs:
        return replace(loaded, slots=open_slots(loaded.network, loaded.device, NoGraphs()))
    budget_bytes = int(GRAPHS_SHARE * CudaMemory(loaded.device).free())
    graphs = CudaGraphs(loaded.device, GRAPHS_S, budget_bytes)
    found = replace(loaded, slots=open_slots(loaded.network, loaded.device, graphs), graphs=graphs)
    # A collection in the middle of a recording may free what is on the device, which ends the recording.
    with current_device(loaded.device), gc_paused():
        if found.slots is not None:
            found.slots.capture()
        found.inference.capture(graphs.beside())  # newcomers' views run beside the decoder's steps
    return found


def open_slots(
    network: DynReferModel, device: torch.device, graphs: Graphs, free: Callable[[], int] | None = None
) -> DecodingSlots | None:
    """Slots for the captions of a network on this device, whose kernels have been chosen; None on a CPU, and for a
    language model that decodes whole batches alone.

    As many as take a quarter of the free memory at most, a power of two. free: bytes; by default the GPU's.
    """
    if device.type == "cpu" or not network.language.decodes_in_slots:
        return None
    language, rows = network.language, DECODING_ROWS
    left = CudaMemory(device).free() if free is None else free()
    while rows > 1 and rows * language.bytes_per_slot > SLOTS_SHARE * left:
        rows //= 2
    return translate_device_errors(lambda: language.open_slots(rows, graphs))


def _tokenizer(folder: Path, vocab_size: int) -> Any:
    with quiet():
        return load_tokenizer(folder, vocab_size)


def _region_text_scale(network: DynReferModel, directory: Path) -> float:
    try:
        return math.exp(float(network.region_text_temperature))
    except OverflowError as error:
        raise WeightsError(f"region_text_temperature of the weights in {str(directory)!r} is too large.") from error


def _is_batch_invariant(network: DynReferModel, texts: int, directory: Path) -> bool:
    """The probe is the first that computes with the network, so it also meets settings that fit no computation."""
    sentence = f"{directory / 'config.json'}: its settings fit the weights but give no network that computes"
    return by_library(lambda: is_batch_invariant(network, texts), ConfigError, sentence)


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


def model_directory(model: str | Path) -> Path:
    """The directory of "embedded", or the one given. Raises `ModelNotFoundError`."""
    directory = EMBEDDED if str(model) == "embedded" else Path(model)
    if not os.path.isdir(directory):  # unlike Path.is_dir, it does not raise where a parent may not be read
        raise ModelNotFoundError(
            f"there is no model directory {str(model)!r}; give 'embedded' or a converted directory."
        )
    _refuse_unreadable(directory)
    if not os.path.lexists(directory / "config.json"):
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
    data = read_json_object(path, "configuration")
    if data.get("model_type") != DynReferConfig.model_type:
        raise ConfigError(f"{path} does not describe a DynRefer model (model_type must be 'dynrefer').")
    try:
        with quiet():
            return by_library(lambda: DynReferConfig.from_dict(data), ConfigError, "it cannot be read")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _network(directory: Path, config: DynReferConfig, device: torch.device, dtype: torch.dtype) -> DynReferModel:
    _check_stored(directory, config)

    def load() -> Any:
        with quiet():
            # With the loading info it returns a pair, which its annotations do not say.
            return DynReferModel.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                device_map={"": str(device)} if device.type == "cuda" else None,
                output_loading_info=True,
                use_safetensors=True,
                local_files_only=True,
            )

    found = by_library(load, WeightsError, f"the weights in {str(directory)!r} cannot be read")
    network, report = found
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report.get(what):
            first = sorted(map(str, report[what]))[0]
            raise WeightsError(f"the weights in {str(directory)!r} do not fit config.json: {what} {first}.")
    loaded: DynReferModel = network.eval().requires_grad_(False)
    _refuse_not_finite(loaded, directory)
    return loaded


def _check_stored(directory: Path, config: DynReferConfig) -> None:
    """Raise unless the weights on disk are those of a network of these sizes, before anything is allocated for it."""
    try:
        with quiet():
            layout = stored_layout(config)
    except ConfigError as error:
        raise ConfigError(f"{directory / 'config.json'}: {error}") from error
    stored = _stored_tensors(directory)
    for name, shape in layout.shapes.items():
        if name not in stored:
            raise WeightsError(f"the weights in {str(directory)!r} lack {name!r}, which config.json needs.")
        if stored[name].shape != shape:
            raise WeightsError(
                f"{name!r} of the weights in {str(directory)!r} has the shape {list(stored[name].shape)}, but "
                f"config.json needs {list(shape)}."
            )
    for name, tensor in stored.items():
        if name not in layout.shapes and name not in layout.tied:
            raise WeightsError(f"the weights in {str(directory)!r} hold {name!r}, for which config.json has no place.")
        # What only counts is not used; trainers that keep all weights in one type store it as a float too.
        allowed = INTEGERS + FLOATS if name in layout.integers else FLOATS
        if tensor.dtype not in allowed:
            raise WeightsError(
                f"{name!r} of the weights in {str(directory)!r} has the type {tensor.dtype}; use {', '.join(allowed)}."
            )


def _stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """What the headers of model.safetensors, or of the shards that its index names, say."""
    index = directory / f"{WEIGHTS_FILE}.index.json"
    if (directory / WEIGHTS_FILE).exists() or not index.exists():
        return read_header(directory / WEIGHTS_FILE, "weight file")
    places = read_json_object(index, "index of the weights").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ConfigError(f"{str(index)!r} has no weight_map from tensors to files.")
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise ConfigError(f"{str(index)!r} names {name!r}, which is no file beside it.")
        found |= read_header(directory / name, "weight file")
    return found


def _refuse_not_finite(network: DynReferModel, directory: Path) -> None:
    """Raise `WeightsError` for NaN or infinity among the weights, which are read once for it."""
    with torch.inference_mode():
        floats = {name: each for name, each in network.state_dict().items() if each.is_floating_point()}
        flags = [torch.stack(each.aminmax()).isfinite().all() for each in floats.values()]
        # One look at all flags: on a GPU each look waits for the device.
        finite = torch.stack(flags).tolist() if flags else []
    for name, sound in zip(floats, finite, strict=True):
        if not sound:
            raise WeightsError(f"{name!r} of the weights in {str(directory)!r} holds NaN or infinity.")


def by_library(work: Callable[[], Result], kind: type[ModelError], sentence: str) -> Result:
    """The result of one call of a library. Its errors, which have no common base, become one of ours of this kind;
    those of the device stay what they are."""
    try:
        return translate_device_errors(work)
    except ModelError:
        raise
    except Exception as error:
        raise kind(f"{sentence}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What a library says, as the end of a sentence: its first line, or the error's name where it says nothing."""
    return (str(error).strip().split("\n")[0][:200] or type(error).__name__).rstrip(".: ") + "."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
