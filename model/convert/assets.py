"""What accompanies the weights: settings, vocabulary and tokenizers, from the user's copy of the official code."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.convert.sizes import settings_of_sizes
from dynrefer.model.convert.vicuna_tokenizer import vicuna_tokenizer
from dynrefer.model.errors import ConfigError, ConversionError, ModelError
from dynrefer.model.model_files import read_json_object
from dynrefer.model.tokenizers import load_tokenizer
from dynrefer.model.translations import NO_TRANSLATIONS, Translations
from dynrefer.model.vocabulary import Attribute, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dynrefer.model.networks.dynrefer.config import DynReferConfig

TAGS, ATTRIBUTES, CATEGORIES = "ram_tag_list.txt", "ovad2000.json", "coco.json"
CHINESE_TAGS = "ram_tag_list_chinese.txt"  # beside TAGS in the official code of the tags; not everyone has it
_MAX_TABLE_BYTES = 64_000_000
BYTE_PAIRS = "bpe_simple_vocab_16e6.txt.gz"
PRESET = "flan-t5-xl"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def read_config(path: Path | None, name: str = PRESET) -> DynReferConfig:
    """A preset, changed by a JSON file: keys of `DynReferConfig`, or the official code's own sizes (with Flan-T5).

    Of a part (`vision_config`, ...) the file need name only what differs. Raises `ConfigError`.
    """
    from dynrefer.model.networks.dynrefer.config import PRESETS, preset

    document = {} if path is None else read_json_object(path, "configuration")
    try:
        settings = settings_of_sizes(document) if "cfg" in document else document
    except KeyError as error:
        raise ConfigError(f"{path} does not give all sizes of an official model: {error} is missing.") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"{path} gives a size of an official model that is no size.") from error
    base = PRESETS.get(name, {})
    return preset(name, **{key: _over(base.get(key), value) for key, value in settings.items()})


def _over(base: Any, value: Any) -> Any:
    return {**base, **value} if isinstance(base, dict) and isinstance(value, dict) else value


def read_vocabulary(official: Path) -> Vocabulary:
    """Tags, attributes and categories from the files below a copy of the official repository."""
    tags = [line.strip() for line in _text(_find(official, TAGS)).splitlines()]
    benchmark, categories = _find(official, ATTRIBUTES), _find(official, CATEGORIES)
    records, names = _json(benchmark), _json(categories)
    try:
        attributes = tuple(_attribute(record) for record in records["attributes"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversionError(
            f'{benchmark} is not the benchmark\'s file: it needs "attributes" with "name" and "is_has_att" ({error}).'
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConversionError(f"{categories} is not a list of category names.")
    return Vocabulary(tuple(tag for tag in tags if tag), attributes, tuple(names))


def read_translations(official: Path, vocabulary: Vocabulary) -> Translations:
    """The Chinese list of tags, line by line that of the English one; nothing where it is not below the directory.

    Categories that are tags have the tag's word. Raises `ConversionError` for a list of another length.
    """
    found = next(iter(_below(official, CHINESE_TAGS)), None)
    if found is None:
        return NO_TRANSLATIONS
    words = [line.strip() for line in _text(found).splitlines() if line.strip()]
    if len(words) != len(vocabulary.tags):
        raise ConversionError(
            f"{found} has {len(words)} tags but {TAGS} has {len(vocabulary.tags)}; they must be of the same release."
        )
    tags = {tag: {"zh": word} for tag, word in zip(vocabulary.tags, words, strict=True)}
    return Translations(objects={name: tags[name] for name in vocabulary.categories if name in tags}, properties=tags)


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
    lines = _unpacked(path).split("\n")
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
    try:
        return CLIPTokenizer(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[(first, second) for first, second in merges],  # type: ignore[misc]
            model_max_length=config.text_config.max_position_embeddings,
        )
    except Exception as error:  # of the library in Rust, a bare one
        raise ConversionError(f"{path} is not CLIP's table of byte pairs.") from error


def _unpacked(path: Path) -> str:
    """The text of a compressed file, of reasonable size."""
    try:
        with gzip.open(path) as file:
            content = file.read(_MAX_TABLE_BYTES + 1)
        if len(content) > _MAX_TABLE_BYTES:
            raise ConversionError(f"{path} is larger than {_MAX_TABLE_BYTES:,} bytes, once unpacked: no such table.")
        return content.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConversionError(f"{path} is not a readable table of byte pairs: {error}.") from error


def _byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes, printable bytes first, as byte-level tokenizers order them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + number) for number in range(256 - len(printable)))]


def language_tokenizer(places: list[Path], config: DynReferConfig) -> PreTrainedTokenizerBase:
    """The language model's tokenizer from the first of these directories that holds one."""
    causal = config.language_config.model_type == "llama"
    for place in places:
        if not any((place / name).is_file() for name in ("tokenizer.json", "spiece.model", "tokenizer.model")):
            continue
        if causal:
            return vicuna_tokenizer(place, config.language_config)
        try:
            tokenizer: PreTrainedTokenizerBase = load_tokenizer(place, config.language_config.vocab_size)
        except ModelError as error:
            raise ConversionError(str(error)) from error
        return tokenizer
    wanted = "the directory of lmsys/vicuna-7b-v1.5" if causal else "google/flan-t5-xl"
    raise ConversionError(f"the language model's tokenizer is missing: give {wanted} with --language.")


def hugging_face_directory(name: str) -> Path:
    """A local directory, or a model's name on the Hugging Face Hub, fetched into its cache."""
    if Path(name).is_dir():
        return Path(name)
    if os.path.lexists(name):
        raise ConversionError(f"{name} is a file; give the directory that it is in, or a name on the Hugging Face Hub.")
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
    found = _below(official, name)
    if not found:
        raise ConversionError(
            f"{name} is missing in {official}: give your copy of the official repository, with the archives in it "
            "unpacked, with --official."
        )
    return found[0]


def _below(official: Path, name: str) -> list[Path]:
    """The files of this name, the shallowest first."""
    return sorted(official.rglob(name), key=lambda path: (len(path.parts), path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConversionError(f"{path} is not a readable text: {error}.") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8 or not JSON
        raise ConversionError(f"{path} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise ConversionError(f"{path} is not valid JSON: it is nested too deeply.") from error
