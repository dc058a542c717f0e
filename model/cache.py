"""What was computed before and may be asked for again: view features and region representations, bounded in bytes.

Keys are digests of pixels, so the same crop of the same picture is found again whoever sends it, and nothing else is.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")

Digest = bytes


@dataclass(frozen=True, slots=True)
class CacheStats:
    """hits, misses: look-ups so far. entries, bytes: what is held now."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class ByteCache(Generic[Value]):
    """The values used last, as many as fit into `capacity` bytes; a capacity of 0 keeps nothing.

    For one thread; `stats` may be read from any.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise ValueError(f"the cache's capacity must be 0 bytes or more, not {capacity}.")
        self.capacity = capacity
        self._held: OrderedDict[Digest, tuple[Value, int]] = OrderedDict()
        self._bytes = self._hits = self._misses = 0

    @property
    def stats(self) -> CacheStats:
        return CacheStats(self._hits, self._misses, len(self._held), self._bytes)

    def get(self, key: Digest) -> Value | None:
        """The value, which counts as used now, or None."""
        if not self.capacity:
            return None
        found = self._held.get(key)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._held.move_to_end(key)
        return found[0]

    def put(self, key: Digest, value: Value, size: int) -> None:
        """Keep a value of `size` bytes; the ones used longest ago make room. One larger than the cache is not kept."""
        if size > self.capacity or not self.capacity:
            return
        if key in self._held:
            self._bytes -= self._held.pop(key)[1]
        self._held[key] = (value, size)
        self._bytes += size
        while self._bytes > self.capacity:
            _, (_, gone) = self._held.popitem(last=False)
            self._bytes -= gone

    def clear(self) -> None:
        """Forget every value; the counts of look-ups go on."""
        self._held.clear()
        self._bytes = 0


def view_digest(image: NDArray[np.uint8]) -> Digest:
    """Of a view's pixels as the network takes them, (3, S, S) uint8: the crop's place and its source do not matter.

    SHA-256, because a client must not be able to make one view pass for another's.
    """
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def region_digest(revision: str, views: Iterable[Digest], boxes: NDArray[np.float32]) -> Digest:
    """Of all that a region representation depends on: the network, the views in their order, the box in each."""
    digest = hashlib.sha256(revision.encode())
    for view in views:
        digest.update(view)
    digest.update(np.ascontiguousarray(boxes).data)
    return digest.digest()
