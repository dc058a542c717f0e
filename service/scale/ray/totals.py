"""What replicas have counted since they began, added up so that it never falls.

A replica that is silent, or gone, takes nothing back: who reads a counter that falls takes it for one that began anew,
and counts everything once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from dynrefer.service.engine.executor import ExecutorCounts
from dynrefer.service.observability.metrics import SharedCacheCounts

OF_STORES = "read_errors", "write_errors", "invalid", "written", "dropped"


@dataclass(frozen=True, slots=True)
class Totals:
    """As in `ExecutorCounts`."""

    caches: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    graphs: Mapping[str, int] = field(default_factory=dict)
    shared_cache: SharedCacheCounts = SharedCacheCounts()

    @classmethod
    def of(cls, counts: ExecutorCounts) -> Self:
        """One replica's."""
        return cls(counts.caches, counts.graphs, counts.shared_cache)

    def __add__(self, other: "Totals") -> "Totals":
        """Of both. Whether the shared cache is in use is no count, and is left out."""
        caches = dict(self.caches)
        for name, (hits, misses) in other.caches.items():
            before = caches.get(name, (0, 0))
            caches[name] = before[0] + hits, before[1] + misses
        graphs = dict(self.graphs)
        for name, pieces in other.graphs.items():
            graphs[name] = graphs.get(name, 0) + pieces
        stores = {name: getattr(self.shared_cache, name) + getattr(other.shared_cache, name) for name in OF_STORES}
        return Totals(caches, graphs, SharedCacheCounts(**stores))
