"""A tiny Ferret-v2 with random weights, and questions for it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dynrefer.model.conversation import Conversation, Message, NamedRegion, Role
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.networks.converse.ferret.config import preset
from dynrefer.model.networks.converse.ferret.converser import FerretConverser
from dynrefer.model.networks.converse.ferret.network import FerretModel
from dynrefer.model.types import RegionQuery
from dynrefer.workbench.random_ferret import byte_tokenizer, random_ferret

torch.set_num_threads(1)

REGIONS = (
    NamedRegion("a", RegionQuery(box=(10, 20, 100, 90))),
    NamedRegion("b", RegionQuery(box=(60, 5, 150, 60))),
)


def spread_model(**changes: Any) -> FerretModel:
    """Random weights large enough that an answer depends on every word and feature."""
    model: FerretModel = random_ferret(preset("tiny", **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "language" in name:
                parameter.mul_(8.0)
    return model


def converser(model: FerretModel, **options: Any) -> FerretConverser:
    """With an empty cache."""
    return FerretConverser(model, byte_tokenizer(), **options)


def picture(seed: int = 0, width: int = 160, height: int = 100) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def conversation(*messages: str, **options: Any) -> Conversation:
    """Of the user and the assistant in turn."""
    roles = (Role.USER, Role.ASSISTANT)
    given = tuple(Message(roles[place % 2], content) for place, content in enumerate(messages))
    return Conversation(given, REGIONS, **{"max_tokens": 20, **options})


def turn_of(speaker: FerretConverser, asked: Conversation, seed: int = 0, piece: int = 8) -> ConverseTurn:
    (turn,) = speaker.spec.prepare_each(picture(seed), [asked])
    return replace(turn, piece=piece)


def never() -> bool:
    return False


def answered(speaker: FerretConverser, turns: Sequence[ConverseTurn]) -> list[Spoken]:
    """The whole answers, all turns going on together until each is done."""
    spoken = speaker.converse(turns, never)
    while not all(each.done for each in spoken):
        going = [place for place, each in enumerate(spoken) if not each.done]
        more = speaker.converse([turns[place].after(spoken[place]) for place in going], never)
        for place, each in zip(going, more, strict=True):
            spoken[place] = each
    return spoken
