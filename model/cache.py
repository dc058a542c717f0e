"""Caches of view features and region representations, bounded in bytes.

Keys are digests of pixels: an equal crop is found again whichever request it comes from. No torch at import.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.evidence.evidence import Sighting
    from dynrefer.model.networks.dynrefer.decoders import PreparedTexts
    from dynrefer.model.networks.dynrefer.vision import VisionFeatures
    from dynrefer.model.shared_cache import SharedRepresentations

Value = TypeVar("Value")

Digest = bytes


@dataclass(frozen=True, slots=True)
class CacheStats:
    """hits, misses: look-ups so far. entries, bytes: what is cached now."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


class ByteCache(Generic[Value]):
    """A least-recently-used cache of at most `capacity` bytes; a capacity of 0 keeps nothing.

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
        """The value, which becomes the most recently used, or None."""
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
        """Keep a value of `size` bytes, evicting the least recently used; one larger than the cache is not kept."""
        if size > self.capacity or not self.capacity:
            return
        if key in self._held:
            self._bytes -= self._held.pop(key)[1]
        self._held[key] = (value, size)
        self._bytes += size
        while self._bytes > self.capacity:
            _, (_, evicted) = self._held.popitem(last=False)
            self._bytes -= evicted

    def clear(self) -> None:
        """Drop every value; the counts of look-ups continue."""
        self._held.clear()
        self._bytes = 0


TEXT_BYTES = 1 << 26  # of texts of requests, unless something else is asked for


class FeatureCache:
    """What a predictor keeps between batches, `capacity` bytes at most; 0 keeps nothing.

    Representations are small and save everything up to the task heads; view features are large and save the encoding
    of a view that another region shares; sightings of evidence are as small as representations and save the tower.
    Views and regions may take up to half of the bytes each, the sightings an eighth of the regions' half.

    text_bytes: beside that, of the texts of requests: half for embeddings, on the CPU, and half for whole vocabularies
    as a decoder takes them, on the device.
    shared: where other processes' representations are found that are not cached here; None: nowhere.
    """

    def __init__(
        self, capacity: int, text_bytes: int = TEXT_BYTES, shared: SharedRepresentations | None = None
    ) -> None:
        self.shared = shared
        sightings = capacity // 16
        self.views: ByteCache[VisionFeatures] = ByteCache(capacity // 2)
        self.regions: ByteCache[Tensor] = ByteCache(capacity - capacity // 2 - sightings)
        self.sightings: ByteCache[Sighting] = ByteCache(sightings)
        self.texts: ByteCache[Tensor] = ByteCache(text_bytes // 2)
        self.vocabularies: ByteCache[PreparedTexts] = ByteCache(text_bytes - text_bytes // 2)

    def clear(self) -> bool:
        """Free the device memory; sightings and texts are not in it. Returns whether anything was cached there."""
        on_device = (self.views, self.regions, self.vocabularies)
        any_cached = any(cache.stats.entries for cache in on_device)
        for cache in on_device:
            cache.clear()
        return any_cached


def view_digest(image: NDArray[np.uint8]) -> Digest:
    """SHA-256 of a view's pixels as the network takes them, (3, S, S) uint8; where they were cut from does not matter.

    A cryptographic hash, because a client must not be able to craft a view that collides with another client's.
    """
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def region_digest(revision: str, views: Iterable[Digest], boxes: NDArray[np.float32]) -> Digest:
    """SHA-256 of all that a region representation depends on: the network, its views in order, the box in each.

    revision: of the network. boxes: (V, 4) float32, pixels of the views.
    """
    digest = hashlib.sha256(revision.encode())
    for view in views:
        digest.update(view)
    digest.update(np.ascontiguousarray(boxes).data)
    return digest.digest()
