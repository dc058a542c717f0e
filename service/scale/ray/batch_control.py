"""What the command and its workers know of each other while a batch run goes on: an actor without a device."""

from __future__ import annotations

MOST_FAILED_LOADS = 3  # of each worker, before any of them has loaded its model


class Control:
    """Lives on the machine of the command and ends with it. workers: how many there are."""

    def __init__(self, workers: int) -> None:
        self._most = MOST_FAILED_LOADS * workers
        self._stopped = False
        self._loads = 0
        self._loaded = False

    def stop(self) -> None:
        """Nothing more is to be begun."""
        self._stopped = True

    def stopped(self) -> bool:
        """Whether that was asked."""
        return self._stopped

    def loading(self) -> bool:
        """A worker is about to load its model. Returns whether it may: not where all that did died of it."""
        self._loads += 1
        return self._loaded or self._loads <= self._most

    def loaded(self) -> None:
        """A worker has its model."""
        self._loaded = True
