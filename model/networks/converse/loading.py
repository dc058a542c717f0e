"""Which converser answers questions: the one of the model, a released one of a local directory, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConfigError, ModelNotFoundError
from dynrefer.model.model_files import read_json_object

if TYPE_CHECKING:
    from dynrefer.model.conversing import Converser
    from dynrefer.model.loading import LoadedModel

FOLDER = "converser"  # of a model directory
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def load_converser(name: str, model: Path, loaded: LoadedModel) -> Converser | None:
    """name: "embedded" (that of the model directory, where it has one), "none", or a directory with a released one.

    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`.
    """
    if name == "none":
        return None
    if name == "embedded":
        return _embedded(model / FOLDER, loaded)
    return _released(Path(name), loaded)


def _embedded(folder: Path, loaded: LoadedModel) -> Converser | None:
    if not (folder / WEIGHTS).exists():
        return None
    raise ConfigError(f"{str(folder)!r} holds a converser, and this version knows none.")


def _released(directory: Path, loaded: LoadedModel) -> Converser:
    """On the model's device, in its type."""
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"there is no converser directory {str(directory)!r}; give embedded, none, or a local directory with a "
            f"converser: its model_type is one of {', '.join(_KINDS)}."
        )
    kind = read_json_object(directory / CONFIG, "configuration of the converser").get("model_type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(
            f"{str(directory)!r} holds {kind!r:.60}, which is no converser; a converser's model_type is one of "
            f"{', '.join(_KINDS)}."
        )
    return _KINDS[kind](directory, loaded)


def _ferret(directory: Path, loaded: LoadedModel) -> Converser:
    from dynrefer.model.networks.converse.ferret.directory import load_ferret  # transformers' classes take a while

    return load_ferret(directory, loaded.device, loaded.dtype)


# What a directory's config.json calls its model -> who loads it.
_KINDS: dict[str, Callable[[Path, LoadedModel], Converser]] = {"ferret-v2": _ferret}
