"""What the device has been seen to manage: regions per second, and how many of them at once. Nothing here locks."""

SMOOTHING = 0.2  # weight of the newest batch in the running rate
PATIENCE = 100  # so many full batches in a row without a failure, and a lowered cap is doubled again


class ThroughputEstimator:
    """cap: the most regions that a batch may hold now; never above `limit`. regions_per_s: smoothed; 0: nothing yet."""

    def __init__(self, limit: int) -> None:
        self._limit = self.cap = limit
        self._full_batches = 0
        self.regions_per_s = 0.0

    def ran(self, regions: int, seconds: float, full: bool | None = None) -> None:
        """A batch of so many regions succeeded and took so long. full: whether it was; None: if it was as large as
        the cap."""
        rate = regions / max(seconds, 1e-6)
        first = self.regions_per_s == 0.0
        self.regions_per_s = rate if first else self.regions_per_s + SMOOTHING * (rate - self.regions_per_s)
        if self.cap < self._limit and (regions >= self.cap if full is None else full):
            self._full_batches += 1
            if self._full_batches >= PATIENCE:
                self.cap, self._full_batches = min(self.cap * 2, self._limit), 0

    def lower_cap(self, regions: int) -> None:
        """Allow no batch larger than so many regions, until PATIENCE full ones have succeeded."""
        self.cap, self._full_batches = max(1, min(regions, self.cap)), 0

    def seconds_for(self, regions: int) -> float:
        """How long so many regions take; a second where nothing has been measured yet."""
        return regions / self.regions_per_s if self.regions_per_s else 1.0


class Turnover:
    """Batches, for the estimator, of a device that regions join and leave at any time.

    One is over once as many regions have completed as there were at most at a time, or none is left.
    """

    def __init__(self) -> None:
        self._most = 0  # regions at a time, since the last one was over; 0 where there was none
        self._completed = 0
        self._since = 0.0

    def joined(self, in_flight: int, now: float) -> None:
        """So many regions are there, with newcomers. now: on the monotonic clock."""
        if not self._most:
            self._since = now
        self._most = max(self._most, in_flight)

    def left(self, completed: int, in_flight: int, now: float, full_from: int, throughput: ThroughputEstimator) -> None:
        """So many regions have completed, and so many are left. full_from: regions that are a full batch."""
        self._completed += completed
        if in_flight and self._completed < self._most:
            return
        if self._completed:
            throughput.ran(self._completed, now - self._since, full=self._most >= full_from)
        self._most, self._completed, self._since = in_flight, 0, now
