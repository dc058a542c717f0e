"""The finished model that the added stages start from, made ready for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import with_noun_placeholder, world_vocabulary
from dynrefer.workbench.training.initial_model import InitialModel, load_initial_model

_STAGE_ROW = re.compile(r"^\| [\w-]+ \| \d+ \| \d+ \| \d+ \|.*\|$", re.MULTILINE)


@dataclass(frozen=True)
class StartingModel:
    """model: float32 on the CPU, its language model with room for the placeholder. tokenizers: text, language.

    revision: of its weights. stages: the rows of its model card that list the stages it was trained in.
    """

    model: DynReferModel
    tokenizers: tuple[Any, Any]
    revision: str
    stages: tuple[str, ...]


def load_starting_model(start: str, world: World, *, seed: int) -> StartingModel:
    """Load "embedded" or a model directory whose vocabulary is the drawn world's. seed: of a new embedding's values.

    Raises `SettingError` for another vocabulary or another kind of language model, and what
    `dynrefer.model.loading.load_model` raises.
    """
    initial = load_initial_model(start)
    language = _checked_tokenizer(initial, start, world)
    revision = initial.network.config.revision
    extend_language_embedding(initial.network, len(language), torch.Generator().manual_seed(seed))
    card = initial.directory / "README.md"
    rows = tuple(_STAGE_ROW.findall(card.read_text(encoding="utf-8"))) if card.is_file() else ()
    return StartingModel(initial.network, (initial.text_tokenizer, language), revision, rows)


def _checked_tokenizer(initial: InitialModel, start: str, world: World) -> Any:
    """The language tokenizer with the placeholder."""
    if initial.vocabulary != world_vocabulary(world):
        raise SettingError(
            f"--from {start}: its vocabulary is not that of the drawn scenes which the added stages train on; to train "
            "it on your own data, name that with --train and the model with --init."
        )
    if not initial.network.config.tie_language_head:
        raise SettingError(
            f"--from {start}: its language model's head is a matrix of its own, so it is no embedded model."
        )
    try:
        tokenizer = with_noun_placeholder(initial.language_tokenizer)
    except ValueError as error:
        raise SettingError(f"--from {start}: {error}") from error
    if len(tokenizer) - initial.network.language.model.get_input_embeddings().weight.shape[0] not in (0, 1):
        raise SettingError(f"--from {start}: its language tokenizer and its weights are of different sizes.")
    return tokenizer


def extend_language_embedding(model: DynReferModel, size: int, generator: torch.Generator) -> None:
    """Give the language model's tied embedding `size` rows, in place; the old ones stay as they are.

    New rows are normal with the deviation of the old ones. Raises ValueError if it would become smaller.
    """
    language = model.language.model
    old = language.get_input_embeddings().weight.detach()
    if size < len(old):
        raise ValueError(f"the embedding has {len(old)} rows and cannot be cut to {size}.")
    if size == len(old):
        return
    language.resize_token_embeddings(size, mean_resizing=False)
    new = language.get_input_embeddings().weight
    with torch.no_grad():
        new[len(old) :] = torch.randn(size - len(old), old.shape[1], generator=generator) * old.std()
    model.config.language_config.vocab_size = language.config.vocab_size = size
