"""Which converser answers questions: the one of the model, one of a local directory, or none."""

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
    """name: "embedded" (that of the model directory, where it has one), "none", or a directory with a converser of one
    of the `KINDS`. It answers on the model's device, in its type.

    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`.
    """
    if name == "none":
        return None
    if name == "embedded":
        folder = model / FOLDER
        return _own(folder, model, loaded) if (folder / WEIGHTS).exists() else None
    directory = Path(name)
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"there is no converser directory {str(directory)!r}; give embedded, none, or a local directory with a "
            f"converser: its model_type is one of {', '.join(KINDS)}."
        )
    kind = read_json_object(directory / CONFIG, "configuration of the converser").get("model_type")
    load = KINDS.get(kind) if isinstance(kind, str) else None
    if load is None:
        raise ConfigError(
            f"{str(directory)!r} holds {kind!r:.60}, which is no converser; a converser's model_type is one of "
            f"{', '.join(KINDS)}."
        )
    return load(directory, model, loaded)


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


def _qwen3_vl(directory: Path, model: Path, loaded: LoadedModel) -> Converser:
    from dynrefer.model.networks.converse.qwen3_vl import Qwen3VLConverser  # transformers' classes take a while

    return Qwen3VLConverser.load(directory, loaded.device, loaded.dtype)


def _ferret(directory: Path, model: Path, loaded: LoadedModel) -> Converser:
    from dynrefer.model.networks.converse.ferret.directory import load_ferret  # transformers' classes take a while

    return load_ferret(directory, loaded.device, loaded.dtype)


# What a directory's config.json calls its model -> what loads it.
KINDS: Mapping[str, Callable[[Path, Path, LoadedModel], Converser]] = {
    "qwen3_vl": _qwen3_vl,
    "ferret-v2": _ferret,
    "dynrefer-converser": _own,
}
