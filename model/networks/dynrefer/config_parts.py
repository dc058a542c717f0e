"""The keys of a configuration and of its parts, which are configurations of transformers: an unknown one is refused by
name, with the nearest that is known.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.dynrefer.config_values import check_part_values

# Beyond the declared fields these are what transformers itself writes into a config.json or passes along.
_LIBRARY_KEYS = frozenset(
    {
        *("name_or_path", "torch_dtype", "attn_implementation", "model_type", "transformers_version"),
        *("tie_word_embeddings", "decoder_start_token_id"),  # read by T5, though not among its declared fields
        "output_attentions",  # in `to_dict`, though not declared
    }
)


def check_part(name: str, part: object, default_type: str, *, only: bool = False) -> None:
    """Raise `ConfigError` unless a part of a configuration is one of transformers' own, with keys and values that it
    knows. default_type: its `model_type` where it names none, and with `only` the one that is allowed."""
    if part is None or isinstance(part, PreTrainedConfig):
        return
    if not isinstance(part, Mapping):
        raise ConfigError(f"{name} is {part!r:.40}; it must be an object with the settings of that part.")
    kind = part.get("model_type", default_type)
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ConfigError(f"{name}.model_type {kind!r:.40} is not a model type that transformers knows.")
    if only and kind != default_type:
        raise ConfigError(f"{name}.model_type {kind!r} is not supported; use {default_type!r}.")
    known = CONFIG_MAPPING[kind]
    refuse_unknown(part, set(known().to_dict()) | set(known.attribute_map), name)
    check_part_values(name, part, known)
    try:
        known(**{key: value for key, value in part.items() if key != "model_type"})
    except Exception as error:  # each class of transformers raises what it meets
        raise ConfigError(f"{name} has values that do not fit: {one_line(error)}.") from error


def one_line(error: Exception) -> str:
    """What a library says, without its line breaks; its name where it says nothing."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def refuse_unknown(given: Mapping[str, Any], valid: set[str], where: str) -> None:
    """Raise `ConfigError` for a key that is neither valid nor the library's, with the nearest valid one."""
    for key in given:
        if key in valid or key in _LIBRARY_KEYS or key.startswith("_"):
            continue
        near = difflib.get_close_matches(key, sorted(valid), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(f"unknown key {key!r} in {where}{hint}")
