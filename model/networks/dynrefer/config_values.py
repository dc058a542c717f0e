"""The types and ranges of a configuration's values, checked before anything is built from them.

transformers checks few of them: a text where a size should be fails deep inside a network, and a size of a billion is
built. Here each is refused by its name. The settings of our own are a record of pydantic's; a part's are checked
against what its class in transformers declares.
"""

import re
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from transformers import PreTrainedConfig

from dynrefer.model.errors import ConfigError

MAX_SIZE = 2**24  # of any dimension: the largest vocabularies of language models have 2**18 words
MAX_LAYERS = 256  # of any one stack, and entries of any list of sizes
_LAYERS = re.compile(r"layers|depth|stages|blocks")
_DTYPES = ("float32", "float16", "bfloat16")
_DTYPE_KEYS = ("dtype", "torch_dtype")
# What a part may hold beyond its class's declared fields; the other such keys have the type of their default value.
_UNDECLARED: dict[str, Any] = {
    "tie_word_embeddings": bool | None,
    "decoder_start_token_id": int | None,
    "output_attentions": bool | None,
    "attn_implementation": str | None,
    "name_or_path": str | None,
    "_name_or_path": str | None,
    "model_type": str,
}

_Side = Annotated[int, Field(ge=8, le=4096)]  # pixels
_Count = Annotated[int, Field(ge=1, le=1024)]
_Width = Annotated[int, Field(ge=1, le=65_536)]
_Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
_Epsilon = Annotated[float, Field(ge=0, lt=1)]
_Views = Annotated[int, Field(ge=1, le=11)]
_Channels = tuple[float, float, float]
_Deviation = Annotated[float, Field(gt=0)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Generation(_Record):
    num_beams: Annotated[int, Field(ge=1, le=64)] = 1
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 1
    min_length: Annotated[int, Field(ge=0, le=1024)] = 0
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] = 1.0


class _Calibration(_Record):
    scale: float
    bias: float


class _OwnValues(_Record):
    """The types and ranges of `DynReferConfig`'s own settings; what they mean stands there."""

    architectures: list[str] | None
    transformers_version: str | None
    view_size: _Side
    num_views: _Views
    num_queries: _Count
    image_mean: Annotated[_Channels, Field(strict=False)]
    image_std: Annotated[tuple[_Deviation, _Deviation, _Deviation], Field(strict=False)]
    vision_norm_eps: _Epsilon
    roi_size: Annotated[int, Field(ge=1, le=256)]
    roi_sampling_ratio: Annotated[int, Field(ge=1, le=64)]
    align_groups: _Count
    align_residual: bool
    decoder_width: _Width
    decoder_heads: _Count
    decoder_layers: _Layers
    decoder_intermediate: _Width
    decoder_norm_eps: _Epsilon
    decoder_dropout: Annotated[float, Field(ge=0, lt=1)]
    max_control_tokens: Annotated[int, Field(ge=1, le=4096)]
    add_control_memory: bool
    tie_language_head: bool
    noun_placeholder: str | None
    evidence: dict[str, Any] | None
    generation: dict[str, Any]
    thresholds: dict[str, float]
    task_priors: dict[str, list[float] | tuple[float, ...]]
    calibration: dict[str, dict[str, float]]
    prompts: dict[str, str | list[str] | tuple[str, ...]]
    name: str
    revision: str
    trained_on: str
    intended_use: str


def check_own_values(values: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless all of `DynReferConfig`'s own settings, by name, have their types and are in range."""
    _check(_OwnValues.model_validate, {name: values[name] for name in _OwnValues.model_fields})


def check_generation(values: Mapping[str, Any]) -> None:
    """The same for the settings of the beam search."""
    _check(_Generation.model_validate, dict(values), "generation.")


def check_calibration(task: str, values: Mapping[str, Any]) -> None:
    """The same for a task's scale and bias. The scale may not be 0, which makes every score the same."""
    _check(_Calibration.model_validate, dict(values), f"calibration.{task}.")
    if values["scale"] == 0:
        raise ConfigError(f"calibration.{task}.scale must not be 0.")


def check_dtype(value: object, where: str = "") -> None:
    """Raise `ConfigError` unless this is the name of a type that weights may have, such a type, or None."""
    if value is not None and value not in _DTYPES and value not in [getattr(torch, name) for name in _DTYPES]:
        raise ConfigError(f"{where}dtype {value!r} is not one of {', '.join(_DTYPES)}.")


def check_part_values(name: str, part: Mapping[str, Any], known: type[PreTrainedConfig]) -> None:
    """Raise `ConfigError` unless each value of a part has the type that its class declares, and a size that is one.

    name: the part's key. known: its class. Keys that the class does not know are not this function's concern.
    """
    hints, defaults = _hints(known), known().to_dict()
    for given, value in part.items():
        key, where = known.attribute_map.get(given, given), f"{name}.{given}"
        if key in _DTYPE_KEYS:
            check_dtype(value, f"{name}.")
            continue
        kind = _UNDECLARED.get(key, hints.get(key))
        if kind is None or typing.get_origin(kind) is typing.ClassVar:
            default = defaults.get(key)
            kind = Any if default is None else type(default) | None
        _check_kind(kind, value, where)
        _check_sizes(value, defaults.get(key), key, where)


def check_token_ids(name: str, part: PreTrainedConfig) -> None:
    """Raise `ConfigError` unless the ids of a language model's special tokens are those of tokens that it has.

    Its end and its padding must be single tokens, because the beam search has one of each.
    """
    for key in ("pad_token_id", "eos_token_id"):
        value = getattr(part, key, None)
        if not isinstance(value, int) or not 0 <= value < part.vocab_size:
            raise ConfigError(f"{name}.{key} is {value}; it must be an id below vocab_size, {part.vocab_size}.")


def _hints(known: type[PreTrainedConfig]) -> Mapping[str, Any]:
    """What a class declares of its fields; nothing where its annotations cannot be resolved."""
    try:
        return typing.get_type_hints(known, localns={"torch": torch})
    except (NameError, TypeError):
        return {}


@cache
def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    """pydantic's check of a type; None for one that it cannot check."""
    try:
        return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
    except PydanticUserError:
        return None


def _check_kind(kind: Any, value: object, where: str) -> None:
    if (adapter := _adapter(kind)) is not None:
        _check(adapter.validate_python, value, where)


def _check_sizes(value: object, default: object, key: str, where: str) -> None:
    """Of an integer, or of each in a list: not negative, not huge, and not 0 where the default is not."""
    if isinstance(value, list | tuple):
        if len(value) > MAX_LAYERS:
            raise ConfigError(f"{where} holds {len(value)} values; at most {MAX_LAYERS} are accepted.")
        first = default[0] if isinstance(default, list | tuple) and default else default
        for each in value:
            _check_sizes(each, first, key, where)
    elif isinstance(value, int) and not isinstance(value, bool):
        least = 1 if isinstance(default, int) and default > 0 and not key.endswith("_id") else 0
        most = MAX_LAYERS if _LAYERS.search(key) else MAX_SIZE
        if not least <= value <= most and key != "out_indices":
            raise ConfigError(f"{where} is {value}; it must be between {least} and {most}.")


def _check(validate: Callable[[Any], object], value: object, where: str = "") -> None:
    """Run a check of pydantic's; its first complaint becomes a `ConfigError`."""
    try:
        validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = where + ".".join(str(part) for part in first["loc"] if isinstance(part, int | str) and _is_key(part))
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ConfigError(f"{place.rstrip('.')} is {_short(first['input'])}: {message}.") from error


def _is_key(part: int | str) -> bool:
    """Whether a part of pydantic's location is the value's own; for a union it also names the alternative it tried."""
    return isinstance(part, int) or re.fullmatch(r"[a-z_]+", part) is not None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
