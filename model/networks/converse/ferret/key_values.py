"""Keys and values of conversations, for any causal model of transformers with attention: written in place, cut back to
a common beginning, and laid side by side for a batch.

transformers' own growing cache copies all of itself at every token; here room for the answer is reserved beforehand.
Several conversations are one batch with padding on the left, so that their last tokens stand beside each other.

Shapes: R = conversations, H = heads of keys and values, L = tokens, d = channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_ROUND = 64  # tokens: reserved room is a multiple


class ReservedLayer(DynamicLayer):
    """A layer's keys and values (R, H, L, d), the first `length` tokens of a reserved room."""

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self._room = room
        self._reserved: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Of the room."""
        return 0 if self._reserved is None else sum(each.nbytes for each in self._reserved)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new tokens behind those that are there; all of them are returned."""
        length = self.get_seq_length()
        whole = length + key_states.shape[2]
        if self._reserved is None or whole > self._reserved[0].shape[2]:
            self._reserve(key_states, value_states, max(self._room, whole), length)
        assert self._reserved is not None
        for reserved, new in zip(self._reserved, (key_states, value_states), strict=True):
            reserved[:, :, length:whole] = new
        self.keep(whole)
        return self.held

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the tokens that are there; there must have been some."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def keep(self, length: int) -> None:
        """Forget what is behind so many tokens, or take up what was written there."""
        if self._reserved is not None:
            self.keys, self.values = (each[:, :, :length] for each in self._reserved)

    def write(self, start: int, keys: Tensor, values: Tensor) -> None:
        """Lay keys and values (R, H, L, d) at a place of the room, and end behind them."""
        if self._reserved is None or start + keys.shape[2] > self._reserved[0].shape[2]:
            self._reserve(keys, values, max(self._room, start + keys.shape[2]), self.get_seq_length())
        assert self._reserved is not None
        for reserved, new in zip(self._reserved, (keys, values), strict=True):
            reserved[:, :, start : start + new.shape[2]] = new
        self.keep(start + keys.shape[2])

    @classmethod
    def joined(cls, rows: Sequence[ReservedLayer], room: int) -> ReservedLayer:
        """Layers of R conversations (1, H, L, d) as one of (R, H, L, d), the shorter ones behind padding."""
        longest = max(row.get_seq_length() for row in rows)
        made = cls(room)
        made._reserve(*rows[0].held, max(room, longest), 0, len(rows))
        made.keep(longest)
        for place, row in enumerate(rows):
            for joined, own in zip(made.held, row.held, strict=True):
                joined[place, :, longest - row.get_seq_length() :] = own[0]
        return made

    def _reserve(self, keys: Tensor, values: Tensor, room: int, length: int, rows: int = 1) -> None:
        """Take memory for `room` tokens like these, and the `length` tokens that are there along."""
        old = self.held if length else None
        # Zeros: what padding holds is multiplied by a weight of 0, and must be finite for that.
        shapes = ((rows, each.shape[1], room, each.shape[3]) for each in (keys, values))
        first, second = (keys.new_zeros(shape) for shape in shapes)
        self._reserved = first, second
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keep(length)
        for new, before in zip(self.held, old or (), strict=False):
            new.copy_(before)


class KeyValues(Cache):
    """All layers of one conversation, or of a batch of them. room: tokens that are reserved."""

    layers: list[ReservedLayer]  # type: ignore[assignment]  # no other kind of layer is put in

    def __init__(self, layers: int, room: int) -> None:
        rounded = -(-room // _ROUND) * _ROUND
        super().__init__(layers=[ReservedLayer(rounded) for _ in range(layers)])

    @property
    def length(self) -> int:
        """Tokens that are there."""
        return self.layers[0].get_seq_length()

    @property
    def nbytes(self) -> int:
        """Of all layers, with the room that is not used yet."""
        return sum(layer.nbytes for layer in self.layers)

    def keep(self, length: int) -> None:
        """Forget what is behind so many tokens."""
        for layer in self.layers:
            layer.keep(length)

    def beginning(self, length: int, room: int) -> KeyValues:
        """A copy of the first tokens, with room for others behind them."""
        made = KeyValues(len(self.layers), room)
        if length:
            for new, layer in zip(made.layers, self.layers, strict=True):
                new.write(0, *(each[:, :, :length] for each in layer.held))
        return made


class JoinedKeyValues:
    """Conversations side by side for a few steps.

    values: of the batch, a `Cache` for the language model.
    """

    def __init__(self, conversations: Sequence[KeyValues], steps: int) -> None:
        self._rows = conversations
        self._lengths = [each.length for each in conversations]
        self._longest = max(self._lengths)
        device = conversations[0].layers[0].held[0].device
        self.values = KeyValues(0, 0)
        by_layer = zip(*(each.layers for each in conversations), strict=True)
        self.values.layers = [ReservedLayer.joined(rows, self._longest + steps) for rows in by_layer]
        places = torch.arange(self._longest, device=device)
        empty = self._longest - torch.tensor(self._lengths, device=device)
        self._seen = (places >= empty[:, None]).long()

    @property
    def positions(self) -> Tensor:
        """(R, 1) int64, of the next token of each."""
        return self._seen.sum(dim=1, keepdim=True) + (self.values.length - self._longest)

    @property
    def mask(self) -> Tensor:
        """(R, L + 1) int64, 0 at the padding of shorter ones; the next token is there already."""
        written = self._seen.new_ones(len(self._seen), self.values.length + 1 - self._longest)
        return torch.cat((self._seen, written), dim=1)

    def split(self, counts: Sequence[int]) -> None:
        """Give each conversation the first so many of its new tokens back."""
        for row, (conversation, count) in enumerate(zip(self._rows, counts, strict=True)):
            new = slice(self._longest, self._longest + count)
            for own, layer in zip(conversation.layers, self.values.layers, strict=True):
                own.write(self._lengths[row], *(each[row : row + 1, :, new] for each in layer.held))
