"""What a causal language model has read of conversations, kept between the pieces of an answer and between its turns.

A text's keys and values are found again by its image and its tokens: all of them where an answer goes on, the longest
common beginning where another question is asked about the same image. What was lost is read again.

Shapes: L = tokens. For the device's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache


@dataclass(slots=True, eq=False)
class ReadText:
    """tokens: (L,) that have been read. values: their keys and values, (1, heads, L, channels) in each layer.
    shift: what positions after the image differ by from places among the tokens."""

    tokens: list[int]
    values: Any
    shift: int

    @property
    def num_bytes(self) -> int:
        """Of keys and values."""
        return sum(each.nbytes for layer in self.values.layers for each in (layer.keys, layer.values))

    def beginning(self, length: int) -> ReadText:
        """A copy of its first tokens, which stays as it is when this goes on."""
        values = DynamicCache()
        for place, layer in enumerate(self.values.layers):
            values.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), place)
        return ReadText(self.tokens[:length], values, self.shift)

    def forget(self, count: int) -> None:
        """Its last tokens, as if they had not been read."""
        self.values.crop(-count)
        del self.tokens[len(self.tokens) - count :]


class ReadTexts:
    """At most `capacity` bytes of them, the least recently used go first; the last one stays whatever its size, because
    its answer goes on."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._held: OrderedDict[int, tuple[bytes, ReadText]] = OrderedDict()
        self._next = 0
        self.num_bytes = 0

    def take(self, image: bytes, tokens: Sequence[int], least: int) -> ReadText | None:
        """What has been read of a beginning of `tokens`, the longest there is, and never all of them; None where fewer
        than `least` have. The caller goes on with it, and puts it back."""
        best, length = None, least - 1
        for key, (digest, text) in self._held.items():
            common = _common(text.tokens, tokens[:-1]) if digest == image else 0
            if common > length:
                best, length = key, common
        if best is None:
            return None
        if length < len(self._held[best][1].tokens):
            self._held.move_to_end(best)
            return self._held[best][1].beginning(length)
        _, text = self._held.pop(best)
        self.num_bytes -= text.num_bytes
        return text

    def put(self, image: bytes, text: ReadText) -> None:
        """Keep a text."""
        self._held[self._next] = image, text
        self._next += 1
        self.num_bytes += text.num_bytes
        while self.num_bytes > self.capacity and len(self._held) > 1:
            _, (_, dropped) = self._held.popitem(last=False)
            self.num_bytes -= dropped.num_bytes

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()
        self.num_bytes = 0


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shorter = min(len(one), len(other))
    if list(one[:shorter]) == list(other[:shorter]):
        return shorter
    differs = torch.tensor(one[:shorter]) != torch.tensor(other[:shorter])
    return int(differs.nonzero()[0])
