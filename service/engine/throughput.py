"""What the device has been seen to manage: regions per second, and how many of them at once. Nothing here locks."""

# The weight of the newest batch in the running drain rate.
SMOOTHING = 0.2
# So many full batches in a row without trouble, and a lowered cap is doubled again.
PATIENCE = 100


class ThroughputEstimator:
    """cap: the most regions that a batch may hold now; never above `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = self.cap = limit
        self._full_batches = 0
        self._regions_per_s = 0.0

    def ran(self, regions: int, seconds: float) -> None:
        """A batch of so many regions went well and took so long."""
        rate = regions / max(seconds, 1e-6)
        first = self._regions_per_s == 0.0
        self._regions_per_s = rate if first else self._regions_per_s + SMOOTHING * (rate - self._regions_per_s)
        if self.cap < self._limit and regions >= self.cap:
            self._full_batches += 1
            if self._full_batches >= PATIENCE:
                self.cap, self._full_batches = min(self.cap * 2, self._limit), 0

    def lower_cap(self, regions: int) -> None:
        """Hold no batch larger than so many regions, until things have gone well for a while."""
        self.cap, self._full_batches = max(1, min(regions, self.cap)), 0

    def seconds_for(self, regions: int) -> float:
        """How long so many regions take; a second where nothing has been measured yet."""
        return regions / self._regions_per_s if self._regions_per_s else 1.0
