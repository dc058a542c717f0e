"""The numbers of the evidence's settings, in config.json, checked by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynrefer.model.errors import ConfigError

# No fitted number comes near it, and float32, in which some are computed with, holds its square.
_LARGEST = 1e9


def read_object(value: object, where: str) -> Mapping[str, object]:
    """A JSON object. where: the setting's name in errors. Raises `ConfigError`."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be an object.")
    return value


def read_number(value: object, where: str) -> float:
    """A finite number of reasonable size. Raises `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
        raise ConfigError(f"{where} must hold finite numbers, not {value!r:.40}.")
    return float(value)


def read_list(value: object, where: str) -> Sequence[object]:
    """A list. Raises `ConfigError`."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be a list.")
    return value


def read_numbers(value: object, where: str) -> tuple[float, ...]:
    """A list of such numbers. Raises `ConfigError`."""
    return tuple(read_number(each, where) for each in read_list(value, where))
