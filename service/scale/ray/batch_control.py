"""What the command and its workers know of each other while a batch run goes on: an actor without a device.

Ray Data tries a shard of a dead worker again for ever, and from Ray 2.64 on takes no other number: so the tries are
counted here.
"""

from __future__ import annotations

from enum import Enum

MOST_FAILED_LOADS = 3  # of each worker, before any of them has loaded its model
TRIES = 3  # of a shard, and then of an item, whose worker dies


class Verdict(Enum):
    """Of a shard that a worker would begin. STOPPED: nothing more is to be begun. GIVEN_UP: too many workers died while
    they had it."""

    GO = "go"
    STOPPED = "stopped"
    GIVEN_UP = "given up"


class Control:
    """Lives on the machine of the command and ends with it. workers: how many there are."""

    def __init__(self, workers: int) -> None:
        self._most = MOST_FAILED_LOADS * workers
        self._stopped = False
        self._begun: dict[bytes, int] = {}  # shards that were begun and have not ended, and how often
        self._loads = 0
        self._loaded = False

    def stop(self) -> None:
        """Nothing more is to be begun."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether that was asked."""
        return self._stopped

    def begin(self, shard: bytes) -> Verdict:
        """A worker has this shard. Whether it is to answer it."""
        if self._stopped:
            return Verdict.STOPPED
        tries = self._begun.get(shard, 0)
        if tries >= TRIES:
            return Verdict.GIVEN_UP
        self._begun[shard] = tries + 1
        return Verdict.GO

    def end(self, shard: bytes) -> None:
        """It was answered."""
        self._begun.pop(shard, None)

    def begin_again(self) -> None:
        """What was given up may be begun anew, in other shards."""
        self._begun.clear()

    def loading(self) -> bool:
        """A worker is about to load its model. Returns whether it may: not where all that did died of it."""
        self._loads += 1
        return self._loaded or self._loads <= self._most

    def loaded(self) -> None:
        """A worker has its model."""
        self._loaded = True
