"""Memory, processes and descriptors of the service while it runs, and whether they stay as they are."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.attacks.served import Watch
from benchmarks.scale_out.processes import Share, shares

EVERY_S = 10.0
SETTLED = 0.25  # the part of a run that fills caches and pools and is left out of slopes
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Sample:
    """at: `time.time()`. by_role: what the processes of each role hold. shared: bytes in use of /dev/shm. disk: of the
    soak's own file system, 0 without one."""

    at: float
    by_role: dict[str, Share]
    shared: int
    disk: int

    @property
    def pss(self) -> int:
        """Bytes, of all processes."""
        return sum(each.pss for each in self.by_role.values())

    @property
    def heap(self) -> int:
        """Bytes of all processes' own memory, without files and shared memory, which has a bound: the object store's
        size."""
        return sum(each.heap for each in self.by_role.values())

    @property
    def descriptors(self) -> int:
        """Of all processes."""
        return sum(each.descriptors for each in self.by_role.values())

    @property
    def processes(self) -> int:
        """How many there are."""
        return sum(each.processes for each in self.by_role.values())


def watching(edge: int, ours: list[int], disk: Path | None) -> Watch[Sample]:
    """Takes samples while a `with` block runs. ours: pids that are not the service's."""

    def sample() -> Sample:
        used = 0 if disk is None else used_bytes(disk)
        return Sample(time.time(), shares(edge, ours), used_bytes(SHARED_MEMORY), used)

    return Watch(sample, EVERY_S)


def used_bytes(folder: Path) -> int:
    """What the files of a file system take; 0 where there is none."""
    return shutil.disk_usage(folder).used if folder.exists() else 0


def slope_per_hour(times: Sequence[float], values: Sequence[float]) -> float:
    """By a least-squares line without the settling part; 0 for fewer than three values."""
    first = int(len(times) * SETTLED)
    times, values = times[first:], values[first:]
    if len(times) < 3:
        return 0.0
    return float(np.polyfit(np.asarray(times) - times[0], values, 1)[0]) * 3600


def left_in(folder: Path) -> list[str]:
    """Names of what is in a folder, none where it is gone."""
    return sorted(os.listdir(folder)) if folder.exists() else []
