"""What goes into the converser's network, and what it keeps of what it has read.

Shapes: B = conversations, S = objects of an image, T = tokens, N = S + T, H = heads, D = width, K = categories,
A = attributes, C = channels of representations, G = groups of letters of a word, V = numbers of a word's vector,
M = nouns that are matched.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes. counting: of the heads, those that weigh each object by itself."""

    words: int
    categories: int
    attributes: int
    tags: int
    channels: int
    vectors: int
    width: int = 160
    layers: int = 5
    heads: int = 8
    counting: int = 3
    pair: int = 24
    inner: int = 480


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Objects as the network takes them. features: (B, S, C). categories: (B, S, K). attributes: (B, S, A).

    boxes: (B, S, 4) xyxy, in units of the image's longest side. frames: (B, 2), its width and height in these units.
    objectness: (B, S). mask: (B, S) bool, whether there is one. whole: (B, S) bool, which is the image itself.
    tags: (B, T') of the whole image. match: (B, S, M), which of the M nouns that are matched it is.
    """

    features: Tensor
    categories: Tensor
    attributes: Tensor
    boxes: Tensor
    frames: Tensor
    objectness: Tensor
    mask: Tensor
    whole: Tensor
    tags: Tensor
    match: Tensor

    def expanded(self, rows: Tensor) -> Slots:
        """Those of these conversations' images; rows: (B',) int64."""
        return Slots(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Tokens of conversations. words: (B, T) int64. grams: (B, T, G) int64. vectors: (B, T, V). meanings: (B, T, K) of
    nouns. match: (B, T, M) likewise, among the nouns that are matched. properties: (B, T, A) of words. roles: (B, T)
    int64.

    regions: asked regions stand among the tokens; `Slots` of (B, T), with `mask` where a token is one or refers to
    one, and `targets`: (B, T) bool, where it is one. mask: (B, T) bool, False for padding, which stands at the end.
    """

    words: Tensor
    grams: Tensor
    vectors: Tensor
    meanings: Tensor
    match: Tensor
    properties: Tensor
    roles: Tensor
    regions: Slots
    targets: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """What later tokens attend to. keys, values: per layer (B, H, S or T, D / H). the rest: what pairs need.

    hidden: (B, N, D) of the last layer, at which pointers point. looks: (B, N, D), seen_attributes: (B, N, A),
    seen_categories: (B, N, K), of what is seen there. objectness: (B, N), 0 of tokens. match, attributes: (B, N, M),
    (B, N, A) as an object that words may mean. boxes: (B, N, 4). placed: (B, N), how sure the box is, 0 for none.
    mask: (B, N) bool. spoken: (B, N), 1 of tokens, 0 of an image's objects. frames: (B, 2), as of `Slots`.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    hidden: Tensor
    looks: Tensor
    seen_attributes: Tensor
    seen_categories: Tensor
    objectness: Tensor
    match: Tensor
    attributes: Tensor
    boxes: Tensor
    placed: Tensor
    mask: Tensor
    spoken: Tensor
    frames: Tensor

    def followed_by(self, other: Keys) -> Keys:
        """Both, in order."""
        joined = {
            field.name: torch.cat((getattr(self, field.name), getattr(other, field.name)), dim=1)
            for field in fields(self)
            if field.name not in ("keys", "values", "frames")
        }
        keys = tuple(torch.cat(pair, dim=2) for pair in zip(self.keys, other.keys, strict=True))
        values = tuple(torch.cat(pair, dim=2) for pair in zip(self.values, other.values, strict=True))
        return Keys(keys, values, **joined, frames=self.frames)

    def expanded(self, rows: Tensor) -> Keys:
        """Those of these rows, (B',) int64."""
        found = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("keys", "values")}
        return Keys(tuple(each[rows] for each in self.keys), tuple(each[rows] for each in self.values), **found)


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """What pairs need of the keys."""

    match: Tensor
    attributes: Tensor
    boxes: Tensor
    placed: Tensor
    mask: Tensor
    spoken: Tensor
    seen_attributes: Tensor

    @classmethod
    def of(cls, before: Keys, own: Keys) -> Sides:
        names = ("match", "attributes", "boxes", "placed", "mask", "spoken", "seen_attributes")
        return cls(*(torch.cat((getattr(before, name), getattr(own, name)), dim=1) for name in names))
