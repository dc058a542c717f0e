"""How many items may wait, together and of one key. Nothing here locks: whoever counts with it does."""

from collections import Counter
from collections.abc import Callable

from dynrefer.service.errors import QueueFullError

REFUSALS = {
    "queue_full": "The queue is full; try again later.",
    "key_share": "Too many regions of this key are waiting; try again later.",
}


class Admission:
    """waiting: items that are admitted and not released.

    key_items: how many one key may have waiting, which may change; 0 sets no bound. seconds_for: how long so many items
    take.
    """

    def __init__(self, key_items: int, seconds_for: Callable[[int], float]) -> None:
        self.waiting = 0
        self.key_items = key_items
        self._seconds_for = seconds_for
        self._of_key: Counter[str | None] = Counter()

    @property
    def keys(self) -> int:
        """How many keys have something waiting."""
        return len(self._of_key)

    def admit(self, items: int, key: str | None, most: int, keys: int) -> None:
        """Let a whole request wait, or none of it. most: items that may wait together. keys: that have some waiting.

        Raises QueueFullError.
        """
        self._refuse_excess(self.waiting + items - most, 1, "queue_full")
        if self.key_items:
            # A key over its limit is served by its part of the throughput only.
            self._refuse_excess(self._of_key[key] + items - self.key_items, max(1, keys), "key_share")
        self.add(key, items)

    def add(self, key: str | None, items: int) -> None:
        """Let items wait whatever there is."""
        self.waiting += items
        self._of_key[key] += items

    def release(self, key: str | None, items: int) -> None:
        """So many items of the key wait no longer."""
        self.waiting -= items
        self._of_key[key] -= items
        if self._of_key[key] <= 0:
            del self._of_key[key]

    def _refuse_excess(self, excess: int, shares: int, reason: str) -> None:
        if excess > 0:
            raise QueueFullError(REFUSALS[reason], self._seconds_for(excess * shares), reason)
