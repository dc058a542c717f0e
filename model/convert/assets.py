"""What accompanies the weights: settings, vocabulary and tokenizers, from the user's copy of the official code."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.convert.sizes import settings_of_sizes
from dynrefer.model.errors import ConfigError, ConversionError
from dynrefer.model.vocabulary import Attribute, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dynrefer.model.networks.dynrefer.config import DynReferConfig

TAGS, ATTRIBUTES, CATEGORIES = "ram_tag_list.txt", "ovad2000.json", "coco.json"
BYTE_PAIRS = "bpe_simple_vocab_16e6.txt.gz"
PRESET = "flan-t5-xl"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def read_config(path: Path | None) -> DynReferConfig:
    """The `flan-t5-xl` preset, changed by a JSON file: keys of `DynReferConfig`, or the official code's own sizes.

    Of a part (`vision_config`, ...) the file need name only what differs. Raises `ConfigError`.
    """
    from dynrefer.model.networks.dynrefer.config import PRESETS, preset

    document = {} if path is None else _json(path, ConfigError)
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a JSON object.")
    try:
        settings = settings_of_sizes(document) if "cfg" in document else document
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path} does not give all sizes of an official model: {error} is missing.") from error
    base = PRESETS[PRESET]
    return preset(PRESET, **{key: _over(base.get(key), value) for key, value in settings.items()})


def _over(base: Any, value: Any) -> Any:
    return {**base, **value} if isinstance(base, dict) and isinstance(value, dict) else value


def read_vocabulary(official: Path) -> Vocabulary:
    """Tags, attributes and categories from the files below a copy of the official repository."""
    tags = [line.strip() for line in _text(_find(official, TAGS)).splitlines()]
    benchmark, categories = _find(official, ATTRIBUTES), _find(official, CATEGORIES)
    records = _json(benchmark, ConversionError)
    names = _json(categories, ConversionError)
    try:
        attributes = tuple(_attribute(record) for record in records["attributes"])
    except (KeyError, TypeError) as error:
        raise ConversionError(
            f'{benchmark} is not the benchmark\'s file: it needs "attributes" with "name" and "is_has_att" ({error}).'
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConversionError(f"{categories} is not a list of category names.")
    return Vocabulary(tuple(tag for tag in tags if tag), attributes, tuple(names))


def _attribute(record: Any) -> Attribute:
    template = record["is_has_att"]
    if template not in ("is", "has"):
        raise ConversionError(f'attribute {record["name"]!r} has "is_has_att" {template!r}; it must be "is" or "has".')
    return Attribute.from_benchmark(record["name"], template)


def text_tokenizer(official: Path, config: DynReferConfig) -> PreTrainedTokenizerBase:
    """CLIP's tokenizer, built from its table of byte pairs; ids as in the official code.

    The table has more merges than are used: the vocabulary's size says how many.
    """
    from transformers import CLIPTokenizer

    path = _find(official, BYTE_PAIRS)
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConversionError(f"{path} is not a readable table of byte pairs: {error}.") from error
    letters = _byte_letters()
    size = config.text_config.vocab_size
    merges = [line.split() for line in lines[1 : 1 + size - 2 * len(letters) - 2]]
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        _START,
        _END,
    ]
    if len(tokens) != size or any(len(pair) != 2 for pair in merges):
        raise ConversionError(f"{path} gives {len(tokens)} tokens but the text tower has {size}.")
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[(first, second) for first, second in merges],  # type: ignore[misc]
        model_max_length=config.text_config.max_position_embeddings,
    )
    return tokenizer


def _byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes, printable bytes first, as byte-level tokenizers order them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + number) for number in range(256 - len(printable)))]


def language_tokenizer(places: list[Path], config: DynReferConfig) -> PreTrainedTokenizerBase:
    """The language model's tokenizer from the first of these directories that holds one."""
    from transformers import AutoTokenizer

    for place in places:
        if not any((place / name).is_file() for name in ("tokenizer.json", "spiece.model")):
            continue
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n", 1)[0].rstrip(".")
            raise ConversionError(f"the tokenizer in {place} cannot be read: {reason}.") from error
        if len(tokenizer) > config.language_config.vocab_size:
            raise ConversionError(
                f"the tokenizer in {place} has {len(tokenizer)} tokens but the language model only "
                f"{config.language_config.vocab_size}."
            )
        return tokenizer
    raise ConversionError("the language model's tokenizer is missing: give google/flan-t5-xl with --language.")


def hugging_face_directory(name: str) -> Path:
    """A local directory, or a model's name on the Hugging Face Hub, fetched into its cache."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        wanted = ["*.json", "*.safetensors", "*.model"]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ConversionError(f"{name} is no directory here and cannot be fetched as a model: {reason}.") from error


def _find(official: Path, name: str) -> Path:
    """The file of this name anywhere below a directory; the shallowest one."""
    if not official.is_dir():
        raise ConversionError(f"there is no directory {official} (--official).")
    found = sorted(official.rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise ConversionError(
            f"{name} is missing in {official}: give your copy of the official repository, with the archives in it "
            "unpacked, with --official."
        )
    return found[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"{path} is not a readable text: {error}.") from error


def _json(path: Path, kind: type[ConfigError] | type[ConversionError]) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise kind(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8 or not JSON
        raise kind(f"{path} is not valid JSON: {error}.") from error
