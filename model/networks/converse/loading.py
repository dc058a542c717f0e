"""Which converser answers questions: the one of the model, a released one of a local directory, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConfigError, ModelNotFoundError

if TYPE_CHECKING:
    from dynrefer.model.conversing import Converser
    from dynrefer.model.loading import LoadedModel

FOLDER = "converser"  # of a model directory
WEIGHTS = "model.safetensors"


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
    raise ConfigError(f"{str(directory)!r} holds no converser that this version knows.")
