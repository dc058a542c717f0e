"""Region representations that processes share: a store outside of them, and how a representation is written in it.

A second level behind `cache.py`: what a process has not cached itself it may find in a store that others write too. The
store is whatever fulfils `SharedStore`; the service has one in Redis. What comes out of it is used where it is exactly
of the form that this network writes, and is a miss else: never an error, and never an answer of another form.

The bits are kept: a representation that was found is the one that was computed. So that it is also the one that would
be computed here, keys begin with a network's `fingerprint` on its device (`network_fingerprint.py`). No torch here.

Shapes: N = representations, Q = region tokens, C = channels.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.cache import CacheStats, Digest

Representation = NDArray[np.float32]  # (Q, C)

# Changed with the form of a value, and with anything that a representation depends on and no fingerprint shows.
FORMAT = 1
# "DRR", format, Q, C; then the numbers, float32, little-endian, row by row.
_HEADER = struct.Struct("<3sBII")
_MAGIC = b"DRR"


class SharedStore(Protocol):
    """Values by key, of this process and of others. One store may serve several models.

    What comes back under a key is what was put there, or nothing. Both calls return within a short time that the store
    bounds, whatever has become of it, and raise nothing: a store that fails has nothing.
    """

    def get_many(self, keys: Sequence[bytes], size: int) -> Sequence[bytes | None]:
        """The values of these keys, in order, None for what is not there. size: bytes of each; others may be left
        out."""

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Put values under keys, later and in another thread, or not at all."""


class SharedRepresentations:
    """The representations of one network in a store. For one thread; `stats` may be read from any.

    fingerprint: of the network on its device, ASCII: only what has the same one is found. shape: (Q, C).
    """

    def __init__(self, store: SharedStore, fingerprint: str, shape: tuple[int, int]) -> None:
        self._store = store
        self._prefix = f"dynrefer:{FORMAT}:{fingerprint}:".encode()
        self._shape = shape
        self._hits = self._misses = 0
        self._asks = True
        self.memory_was_short = False  # since then nothing is looked up, until a batch has been computed

    @property
    def stats(self) -> CacheStats:
        """Look-ups so far; what is in the store is not known here."""
        return CacheStats(self._hits, self._misses)

    def find(self, digests: Sequence[Digest]) -> dict[Digest, Representation]:
        """Those of these regions that are in the store, each finite, in memory of their own."""
        if not digests or not self._asks or self.memory_was_short:
            return {}
        size = _HEADER.size + 4 * self._shape[0] * self._shape[1]
        values = self._store.get_many([self._key(each) for each in digests], size)
        decoded = {
            digest: found
            for digest, value in zip(digests, values, strict=True)
            if value is not None and (found := decode(value, self._shape)) is not None
        }
        self._hits += len(decoded)
        self._misses += len(digests) - len(decoded)
        return decoded

    def add(self, computed: Mapping[Digest, Representation]) -> None:
        """Give representations to the store; they must be finite."""
        if computed:
            self._store.put_many({self._key(digest): encode(each) for digest, each in computed.items()})

    @contextmanager
    def unasked(self) -> Iterator[None]:
        """Inside, everything is computed: where a batch is run to see what it takes."""
        asks, self._asks = self._asks, False
        try:
            yield
        finally:
            self._asks = asks

    def _key(self, digest: Digest) -> bytes:
        return self._prefix + digest.hex().encode()


def encode(representation: Representation) -> bytes:
    """(Q, C) float32 as a value, bit for bit."""
    numbers = np.ascontiguousarray(representation, dtype="<f4")
    return _HEADER.pack(_MAGIC, FORMAT, *representation.shape) + numbers.tobytes()


def decode(value: bytes, shape: tuple[int, int]) -> Representation | None:
    """The representation, (Q, C) of this shape; None for a value that is none, or is not finite."""
    if len(value) != _HEADER.size + 4 * shape[0] * shape[1]:
        return None
    if _HEADER.unpack_from(value) != (_MAGIC, FORMAT, *shape):
        return None
    found = np.frombuffer(value, dtype="<f4", offset=_HEADER.size).reshape(shape)
    return found.astype(np.float32, copy=False) if np.isfinite(found).all() else None
