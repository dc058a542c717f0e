"""What the device makes of rows, copied to the host as it goes on: the host reads what has arrived and need not wait.

Shapes: R = rows, N = sequences per row that are of interest, L = the most steps.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_AHEAD = 2  # steps that a device has yet to do when the host goes on: one under way, one that it finds behind that


class Mark(Protocol):
    """A point in the device's work, as `torch.cuda.Event` is one."""

    def record(self) -> object:
        """It lies behind all work that was launched so far."""

    def query(self) -> bool:
        """Whether the device has reached it."""

    def synchronize(self) -> object:
        """Wait until it has."""


class _Reached:
    """On a CPU nothing is ever under way."""

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


def mark_of(device: torch.device) -> Mark:
    """A mark for the work of this device."""
    mark: Mark = torch.cuda.Event() if device.type == "cuda" else _Reached()
    return mark


@dataclass
class Report:
    """The rows' owners when it was made, whether they go on (R,), and their best sequences so far, in host memory.

    tokens: (R, N, L + 1) int64. score: (R, N) float32. To be read once `reached`.
    """

    going: Tensor
    tokens: Tensor
    score: Tensor
    reached: Mark
    owners: tuple[int, ...] = ()


class Reports:
    """The newest reports: the host reads one while the device writes the others.

    rows: at most so many. new_mark: makes the marks, one per report.
    """

    def __init__(
        self, rows: int, sequences: int, length: int, device: torch.device, new_mark: Callable[[torch.device], Mark]
    ) -> None:
        pinned = device.type == "cuda"  # else copies to the host would wait
        self._reports = deque(
            Report(
                torch.zeros(rows, dtype=torch.bool, pin_memory=pinned),
                torch.zeros((rows, sequences, length), dtype=torch.int64, pin_memory=pinned),
                torch.zeros((rows, sequences), pin_memory=pinned),
                new_mark(device),
            )
            for _ in range(_AHEAD + 1)
        )  # the newest last

    def write(self, owners: Sequence[int], going: Tensor, tokens: Tensor, score: Tensor) -> None:
        """Have the device copy its first rows, one per owner: going (R,), tokens (R, B, L + 1), score (R, B).

        Waits while the device is more than `_AHEAD` reports behind: then `newest` finds one that is no older, and no
        work piles up that would be in vain once rows have ended.
        """
        self._reports.rotate(-1)
        report, rows = self._reports[-1], len(owners)
        sequences = report.score.shape[1]
        report.owners = tuple(owners)
        report.going[:rows].copy_(going[:rows], non_blocking=True)
        report.tokens[:rows].copy_(tokens[:rows, :sequences], non_blocking=True)
        report.score[:rows].copy_(score[:rows, :sequences], non_blocking=True)
        report.reached.record()
        if not self._reports[0].reached.query():
            self._reports[0].reached.synchronize()

    def newest(self, *, wait: bool, behind: int = 0) -> Report | None:
        """The newest that the device has reached; None where none has been.

        wait: for the newest of all, or for that which was written so many before it.
        """
        if wait:
            self._reports[-1 - behind].reached.synchronize()
        return next((report for report in reversed(self._reports) if report.reached.query()), None)

    def forget(self) -> None:
        """Whoever owned rows so far is of no interest any more."""
        for report in self._reports:
            report.owners = ()
