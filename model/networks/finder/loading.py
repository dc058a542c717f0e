"""Which finder finds regions: the one of the model, a released one of a local directory, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.word_placement import WordPlacement
from dynrefer.model.networks.finder.closer_look import CloserLook
from dynrefer.model.networks.finder.embedded import EmbeddedFinder
from dynrefer.model.networks.finder.released import read_directory
from dynrefer.model.networks.finder.weights import FOLDER, WEIGHTS

if TYPE_CHECKING:
    from dynrefer.model.finding import Finder
    from dynrefer.model.loading import LoadedModel


def load_finder(name: str, model: Path, loaded: LoadedModel) -> Finder | None:
    """name: "embedded" (that of the model directory, where it has one), "none", or a directory with a released finder.

    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`.
    """
    if name == "none":
        return None
    if name == "embedded":
        return _embedded(model / FOLDER, loaded)
    return _released(Path(name), loaded)


def _released(directory: Path, loaded: LoadedModel) -> Finder:
    """On the model's device, in its type."""
    from dynrefer.model.networks.finder import grounding_dino, owlv2  # transformers' classes take a while to import

    files = read_directory(directory)
    kind = files.config.get("model_type")
    if kind in grounding_dino.MODEL_TYPES:
        return grounding_dino.GroundingDinoFinder.load(files, loaded.device, loaded.dtype)
    if kind == owlv2.MODEL_TYPE:
        return owlv2.Owlv2Finder.load(files, loaded.device, loaded.dtype)
    known = ", ".join((*grounding_dino.MODEL_TYPES, owlv2.MODEL_TYPE))
    raise ConfigError(
        f"{str(directory)!r} holds {kind!r:.60}, which is no finder; a finder's model_type is one of {known}."
    )


def _embedded(folder: Path, loaded: LoadedModel) -> Finder | None:
    if not (folder / WEIGHTS).exists():
        return None
    placement = loaded.asked_words.placement
    if loaded.evidence is None or not isinstance(placement, WordPlacement):
        raise ConfigError(f"{str(folder)!r} needs a model with evidence of photographs.")
    texts = loaded.texts.categories.float().cpu()
    return EmbeddedFinder.load(
        folder, loaded.vocabulary.categories, texts, loaded.evidence, placement, CloserLook(loaded)
    )
