"""A conversation as the language model reads it: tokens of words, and places for features of the image and of regions.

What stands at each place has a key, so that two prompts' common beginning is found without computing anything.

Shapes: L = places, D = width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.converse.ferret.network import FerretModel, ImageFeatures
from dynrefer.model.networks.converse.ferret.region_points import region_digest
from dynrefer.model.networks.converse.ferret.text import EndOfAnswer, Placeholder, PromptPart, Said
from dynrefer.model.types import RegionQuery

Key = int | bytes  # a token's id, -1 for the image, a region's digest

_IMAGE = -1


@dataclass(frozen=True)
class Prompt:
    """keys: (L,) what stands at each place. regions: by digest, those that are referred to."""

    keys: tuple[Key, ...]
    regions: dict[bytes, RegionQuery]

    def then(self, tokens: Sequence[int]) -> tuple[Key, ...]:
        """The keys with what was written behind them."""
        return (*self.keys, *tokens)


class PromptReader:
    """Writes prompts with a tokenizer and a model's ids. begin: the token that every text begins with; None: none."""

    def __init__(self, tokenizer: Any, begin: int | None, end: int) -> None:
        self._tokenizer, self._begin, self._end = tokenizer, begin, end

    def tokens(self, text: str, *, marks: bool = False) -> list[int]:
        """Of a text, without any that begin or end it. marks: whether those of the language model's are read as such;
        else they are letters, so that no message ends its turn."""
        read = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not marks)
        found: list[int] = read["input_ids"]
        return found

    def prompt(self, parts: Sequence[PromptPart], image_tokens: int) -> Prompt:
        """image_tokens: how many places the image's features take."""
        keys: list[Key] = [] if self._begin is None else [self._begin]
        regions: dict[bytes, RegionQuery] = {}
        for part in parts:
            if isinstance(part, EndOfAnswer):
                keys.append(self._end)
            elif not isinstance(part, Placeholder):
                keys += self.tokens(part, marks=not isinstance(part, Said))
            elif part.region is None:
                keys += [_IMAGE] * image_tokens
            else:
                digest = region_digest(part.region.query)
                regions[digest] = part.region.query
                keys.append(digest)
        return Prompt(tuple(keys), regions)


def common_beginning(first: Sequence[Key], second: Sequence[Key]) -> int:
    """How many keys two sequences begin with alike."""
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)


def embedded(
    model: FerretModel,
    keys: Sequence[Key],
    start: int,
    features: Callable[[], ImageFeatures],
    region: Callable[[bytes], Tensor],
) -> Tensor:
    """What stands at the places from `start` on, (1, L - start, D). features: of the image; region: of a digest; both
    are called only for what stands there."""
    words = model.get_input_embeddings()
    like = words.weight
    shown = [max(0, key) if isinstance(key, int) else 0 for key in keys[start:]]
    found: Tensor = words(torch.tensor(shown, device=like.device))
    image = [place - start for place in range(start, len(keys)) if keys[place] == _IMAGE]
    if image:
        before = sum(key == _IMAGE for key in keys[:start])
        found[image] = features().tokens[before:].to(like.dtype)
    for place, key in enumerate(keys[start:]):
        if isinstance(key, bytes):
            found[place] = region(key).to(like.dtype)
    return found[None]
