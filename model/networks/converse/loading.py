"""Which converser answers questions: the one of the model, a released one of a local directory, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
            "Qwen3-VL of transformers."
        )
    kind = read_json_object(directory / CONFIG, "configuration of the converser").get("model_type")
    load = KINDS.get(kind) if isinstance(kind, str) else None
    if load is None:
        raise ConfigError(
            f"{str(directory)!r} holds {kind!r:.60}, which is no converser; a converser's model_type is one of "
            f"{', '.join(KINDS)}."
        )
    return load(directory, loaded)


def _qwen3_vl(directory: Path, loaded: LoadedModel) -> Converser:
    from dynrefer.model.networks.converse.qwen3_vl import Qwen3VLConverser  # transformers' classes take a while

    return Qwen3VLConverser.load(directory, loaded.device, loaded.dtype)


# model_type of a directory's config.json -> what loads it.
KINDS: Mapping[str, Callable[[Path, LoadedModel], Converser]] = {"qwen3_vl": _qwen3_vl}
