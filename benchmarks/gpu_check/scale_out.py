"""Replicas of Ray Serve on the device beside the plain process: whether sharing a card gains anything, what a hop to a
replica costs, and what a replica that is killed under load costs its clients."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore2
import psutil

from benchmarks.fuzz import service
from benchmarks.gpu_check.clients import Group, Load, send
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from benchmarks.gpu_check.model_directory import write_model
from benchmarks.gpu_check.service import MOST_REGIONS, draw

REPLICA = "ray::ServeReplica"  # how the process of a replica is called
BACK_S = 60.0  # within which a killed replica must be replaced
KILL_AFTER_S = 2.0


@dataclass(frozen=True)
class Way:
    """name: for the table. replicas: 0 for the plain process. gpus: of the card, for each."""

    name: str
    replicas: int
    gpus: float = 1.0

    def options(self, given: Conditions) -> list[str]:
        """Of the command line."""
        if not self.replicas:
            return []
        gpus = f"{self.gpus:g}" if given.is_gpu else "0"
        cores = ["--replica-cpus", "2" if given.is_gpu else "1"]
        return ["--engine", "ray", "--replicas", str(self.replicas), "--replica-gpus", gpus, *cores]


WAYS = (Way("one process", 0), Way("one replica", 1), Way("two replicas, half the card each", 2, 0.5))


def measure(given: Conditions) -> Iterator[Figure]:
    """Each way in turn; with two replicas, one of them is killed at the end."""
    model, image = given.folder / "scale-out" / "model", draw(given.folder / "noise.jpg")
    write_model(model, given.preset, given.work, given.on)
    for way in reversed(WAYS):  # what the time does not allow is the plain way, which the part `service` has too
        yield from _served(given, way, model, image)


def _served(given: Conditions, way: Way, model: Path, image: Path) -> Iterator[Figure]:
    command = ["dynrefer.service.cli", "serve", "--model", str(model), "--device", given.device, "--cache-bytes", "0"]
    command += ["--max-regions", str(MOST_REGIONS), "--max-queue-regions", "1024", *way.options(given)]
    began = time.perf_counter()
    with service(*command) as (process, address):
        try:
            yield Figure("scale_out", f"{way.name}, start to ready", time.perf_counter() - began, "s")
            if way.replicas:
                _await_replicas(process.pid, address, way.replicas)
            for group in _groups(given):
                send(address, image, [group], given.load_s / 4, given.folder)
                found = send(address, image, [group], given.load_s, given.folder)
                yield from _rows(f"{way.name}, {group.clients} x {group.regions}", group, found)
            if way.replicas > 1:
                yield _killed(given, way, process.pid, address, image)
        finally:
            _end(process.pid)


def _groups(given: Conditions) -> tuple[Group, ...]:
    return (Group(1, 1), Group(16, 8), Group(32, 8)) if given.is_gpu else (Group(1, 1), Group(4, 2))


def _rows(name: str, group: Group, found: Load) -> Iterator[Figure]:
    detail = {
        "requests": len(found.answers),
        "failed": found.failed,
        "clients": group.clients,
        "regions": group.regions,
    }
    detail |= {"p50_ms": found.ms(50), "p99_ms": found.ms(99)}
    yield Figure("scale_out", name, found.regions_per_s, "regions/s", ok=not found.failed, detail=detail)


def _killed(given: Conditions, way: Way, pid: int, address: str, image: Path) -> Figure:
    """kill -9 of one replica under load: how many requests failed, and after how long there were as many as before."""
    victim = _replicas(pid)[0]
    back: list[float] = []

    def kill() -> None:
        time.sleep(KILL_AFTER_S)
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        with suppress(SystemExit):
            time.sleep(0.5)
            _await_replicas(pid, address, way.replicas)
            back.append(time.monotonic() - began)

    killing = threading.Thread(target=kill)
    killing.start()
    found = send(address, image, [Group(8, 8) if given.is_gpu else Group(2, 2)], 3 * given.load_s, given.folder)
    killing.join()
    text = f"{found.failed} of {len(found.answers)} requests failed"
    text += f", replaced after {back[0]:.1f} s" if back else f", not replaced within {BACK_S:g} s"
    detail: dict[str, Any] = {"requests": len(found.answers), "failed": found.failed, "p99_ms": found.ms(99)}
    detail |= {"replaced_after_s": round(back[0], 2)} if back else {}
    return Figure("scale_out", f"kill -9 of one of {way.replicas} replicas", text, ok=not found.failed, detail=detail)


def _replicas(pid: int) -> list[int]:
    """The processes of replicas among those that a service started."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(each.cmdline()).startswith(REPLICA):
                found.append(each.pid)
    return found


def _await_replicas(pid: int, address: str, count: int) -> None:
    """Until so many replicas are up. Raises SystemExit if they are not in time."""
    until = time.monotonic() + BACK_S
    while len(_replicas(pid)) < count or _up(address) < count:
        if time.monotonic() > until:
            raise SystemExit(f"there are {_up(address):g} of {count} replicas after {BACK_S:g} s.")
        time.sleep(0.2)


def _up(address: str) -> float:
    """Replicas that answer, as the service counts them."""
    text = httpcore2.request("GET", address + "/metrics").content.decode()
    lines = [
        line for line in text.splitlines() if line.startswith("dynrefer_replicas{") and 'state="answering"' in line
    ]
    return sum(float(line.split()[-1]) for line in lines)


def _end(pid: int) -> None:
    """Let the service end with its cluster, and see to it that nothing of it stays."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        process.terminate()
        psutil.wait_procs([process], timeout=15)
        for each in children:
            with suppress(psutil.Error):
                each.kill()
