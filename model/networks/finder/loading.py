"""Which finder finds regions: the one of the model, a released one of a local directory, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.word_placement import WordPlacement
from dynrefer.model.networks.finder.closer_look import CloserLook
from dynrefer.model.networks.finder.embedded import EmbeddedFinder
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
    raise ConfigError(f"{name!r} is no finder.")


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
