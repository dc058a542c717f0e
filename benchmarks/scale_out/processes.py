"""The processes of a service by what they do, with their memory and descriptors; and none of them left at the end.

Ray starts its processes from one another, and some outlive the one that started them. So this process adopts what is
orphaned below it (Linux: PR_SET_CHILD_SUBREAPER), and every process of the service stays among its descendants.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

PR_SET_CHILD_SUBREAPER = 36
# What a command line says of a process, in the order in which it is tried.
ROLES = (
    ("image worker", r"dynrefer\.service\.workers"),
    ("gcs", r"^\S*/gcs_server "),
    ("raylet", r"^\S*/raylet "),
    ("replica", r"^ray::ServeReplica"),
    ("controller", r"^ray::ServeController"),
    ("proxy", r"^ray::ProxyActor"),
    ("agent", r"^ray::(Dashboard|RuntimeEnv)Agent|dashboard/agent\.py|runtime_env/agent"),
    ("idle worker", r"^ray::|default_worker\.py"),
)


@dataclass(frozen=True, slots=True)
class Share:
    """What the processes of one role hold. pss: bytes, shared pages counted in part; uss: what would come back if they
    ended. heap, shared: the parts of pss that are their own memory, and pages of shared memory, such as of Ray's object
    store, which a process keeps mapped once it has touched them; the rest are files."""

    processes: int
    pss: int
    uss: int
    descriptors: int
    heap: int = 0
    shared: int = 0


def adopt_orphans() -> None:
    """From now on every orphan below this process becomes its child."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(ours: Iterable[int] = ()) -> list[psutil.Process]:
    """All living processes below this one, but for `ours`, pids of the benchmark's own, and what is below them."""
    left_out, found = set(ours), []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.ppid() in left_out:
                left_out.add(each.pid)
            if each.pid not in left_out and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def role(process: psutil.Process, edge: int) -> str:
    """What it does. edge: pid of the service's first process."""
    if process.pid == edge:
        return "edge"
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return "ended"
    for name, pattern in ROLES:
        if re.search(pattern, line):
            return name
    return "other"


def replicas(edge: int, ours: Iterable[int] = ()) -> list[psutil.Process]:
    """The replicas' processes, oldest first."""
    return sorted((each for each in descendants(ours) if role(each, edge) == "replica"), key=lambda each: each.pid)


def shares(edge: int, ours: Iterable[int] = ()) -> dict[str, Share]:
    """What the processes of every role hold."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0, 0])
    for each in descendants(ours):
        with contextlib.suppress(psutil.Error):
            memory = each.memory_full_info()
            found = totals[role(each, edge)]
            values = (1, memory.pss, memory.uss, each.num_fds(), *heap_and_shared(each.pid))
            for place, value in enumerate(values):
                found[place] += value
    return {name: Share(*found) for name, found in sorted(totals.items())}


def heap_and_shared(pid: int) -> tuple[int, int]:
    """Bytes of a process's own memory and its part of shared memory (Linux: Pss_Anon, Pss_Shmem); 0 where the system
    does not say."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        return found.get("Pss_Anon", 0), found.get("Pss_Shmem", 0)
    return 0, 0


def cpu_s(edge: int, ours: Iterable[int] = ()) -> dict[str, float]:
    """Processor seconds of the living processes of every role so far, ended children of theirs included."""
    totals: dict[str, float] = defaultdict(float)
    for each in descendants(ours):
        with contextlib.suppress(psutil.Error):
            totals[role(each, edge)] += sum(each.cpu_times()[:4])
    return dict(totals)


def await_end(limit_s: float, ours: Iterable[int] = ()) -> list[str]:
    """Wait until nothing is left; command lines of what is left after `limit_s`, which is then killed."""
    until = time.monotonic() + limit_s
    while (left := descendants(ours)) and time.monotonic() < until:
        reap()
        time.sleep(0.1)
    lines = []
    for each in left:
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(each.cmdline())[:120])
            each.kill()
    reap()
    return lines


def reap() -> None:
    """Collect adopted processes that have ended. Not while a `Popen` of this process is still to be waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def await_that(true: Callable[[], bool], limit_s: float, every_s: float = 0.1) -> float | None:
    """Seconds until it is true; None where it is not within `limit_s`."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > limit_s:
            return None
        time.sleep(every_s)
    return time.monotonic() - began
