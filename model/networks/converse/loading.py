"""Which converser answers questions: the one of the model, a released one of a local directory, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConfigError, ModelNotFoundError
from dynrefer.model.model_files import read_json_object

if TYPE_CHECKING:
    from dynrefer.model.conversing import Converser
    from dynrefer.model.loading import LoadedModel

FOLDER = "converser"  # of a model directory
WEIGHTS = "model.safetensors"


def load_converser(name: str, model: Path, loaded: LoadedModel) -> Converser | None:
    """name: "embedded" (that of the model directory, where it has one), "none", or a directory with a released one,
    or with one of this kind that was trained anew.

    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`.
    """
    if name == "none":
        return None
    if name == "embedded":
        return _embedded(model, loaded)
    if _is_own(Path(name)):
        return _own(Path(name), model, loaded)
    return _released(Path(name), loaded)


def _embedded(model: Path, loaded: LoadedModel) -> Converser | None:
    folder = model / FOLDER
    return _own(folder, model, loaded) if (folder / WEIGHTS).exists() else None


def _is_own(directory: Path) -> bool:
    """Whether a directory holds a converser of the kind that is embedded, as `workbench.training.converse` makes it."""
    from dynrefer.model.networks.converse.embedded.files import MODEL_TYPE

    path = directory / "config.json"
    return path.is_file() and read_json_object(path, "configuration").get("model_type") == MODEL_TYPE


def _own(folder: Path, model: Path, loaded: LoadedModel) -> Converser:
    """It proposes objects with the model's own finder, whichever one the model is used with."""
    from dynrefer.model.evidence.word_placement import WordPlacement
    from dynrefer.model.networks.converse.embedded.embedded import EmbeddedConverser
    from dynrefer.model.networks.converse.embedded.files import load_files
    from dynrefer.model.networks.converse.embedded.perception import Perceiver, sizes_of
    from dynrefer.model.networks.finder.loading import load_finder

    finder = load_finder("embedded", model, loaded)
    if finder is None:
        raise ConfigError(f"{str(folder)!r} needs a model with a finder of its own.")
    files = load_files(folder, sizes_of(loaded))
    known = loaded.asked_words.placement
    placement = known if isinstance(known, WordPlacement) else None
    return EmbeddedConverser(files, Perceiver(loaded, finder), placement, loaded.vocabulary.categories)


def _released(directory: Path, loaded: LoadedModel) -> Converser:
    """On the model's device, in its type."""
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"there is no converser directory {str(directory)!r}; give embedded, none, or a local directory with a "
            "Qwen3-VL of transformers."
        )
    raise ConfigError(f"{str(directory)!r} holds no converser that this version knows.")
