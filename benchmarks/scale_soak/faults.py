"""What goes wrong on purpose, a fault a minute, in turn. Each begins, holds for a while, and is taken back.

None of them may cost an answer. What no local cluster survives, and so is not done here, is the death of Ray's own
raylet or GCS: the service then ends, for its supervisor to start again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.scale_out.processes import await_that
from benchmarks.scale_out.served import Served

RECOVERY_S = 150.0  # within which all replicas have to be back, on a machine that others use too
SLOW_CLIENTS = 200
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
SLEEP = Path(__file__).with_name("clock")


@dataclass
class Scene:
    """What the faults act on. disk: the small file system that holds log and scratch, None without the right to mount
    one. clock: the file that libfaketime reads, None without it. stall_s: how long a replica is stopped. spare: another
    model, by its name in models_dir."""

    served: Served
    replicas: int
    disk: Path | None
    clock: Path | None
    stall_s: float
    spare: str
    ours: list[int] = field(default_factory=list)


@dataclass
class Injected:
    """A fault that was done. began, ended: `time.time()`. recovered_s: from its beginning until all replicas were
    there; None where they were not in time. notes: figures of its own."""

    fault: str
    began: float
    ended: float
    recovered_s: float | None
    notes: dict[str, Any] = field(default_factory=dict)


def inject(name: str, scene: Scene) -> Injected:
    """Do one fault and wait until the service has recovered."""
    began = time.time()
    known = pids(scene)
    notes = FAULTS[name](scene)
    ended = time.time()
    lost = notes.pop("lost", None)
    time.sleep(1.5)  # the edge asks its replicas once a second: by then it knows
    came_back = await_that(lambda: _complete(scene, lost), RECOVERY_S, 0.25)
    recovered = None if came_back is None else round(time.time() - began, 1)
    return Injected(name, began, ended, recovered, {**notes, "new_processes": len(pids(scene) - known)})


def pids(scene: Scene) -> set[int]:
    """Of the replicas."""
    return {int(each.pid) for each in scene.served.replicas()}


def _complete(scene: Scene, lost: int | None) -> bool:
    if len(pids(scene) - {lost}) < scene.replicas:
        return False
    return scene.served.replicas_answering() >= scene.replicas and scene.served.get("/readyz").status == 200


def kill(scene: Scene) -> dict[str, Any]:
    """SIGKILL for one replica."""
    victim = scene.served.replicas()[0]
    victim.kill()
    return {"lost": victim.pid}


def stall(scene: Scene) -> dict[str, Any]:
    """SIGSTOP for one replica, for longer than the edge waits for it; then SIGCONT."""
    return _stopped(scene, scene.stall_s)


def long_stall(scene: Scene) -> dict[str, Any]:
    """The same for so long that Serve replaces it, which asks three times, ten seconds each."""
    return _stopped(scene, 100.0)


def _stopped(scene: Scene, limit_s: float) -> dict[str, Any]:
    victim = scene.served.replicas()[-1]
    victim.suspend()
    ended = await_that(lambda: not _lives(victim), limit_s)
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.resume()
    return {
        "lost": victim.pid if ended is not None else None,
        "ended_after_s": None if ended is None else round(ended, 1),
    }


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def disk(scene: Scene) -> dict[str, Any]:
    """Not a byte free where log, session folder and TMPDIR are, for twenty seconds."""
    assert scene.disk is not None
    ballast = scene.disk / "ballast"
    block = bytes(1 << 20)
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(block if _free(scene.disk) > len(block) else b"\0" * 512):
            pass
    free = _free(scene.disk)
    time.sleep(20)
    ballast.unlink()
    return {"free_bytes": free}


def _free(path: Path) -> int:
    return shutil.disk_usage(path).free


def slow(scene: Scene) -> dict[str, Any]:
    """Many clients that send a byte a second for twenty seconds, half of them within the head."""
    return asyncio.run(_slow_clients(scene.served.host, scene.served.port))


async def _slow_clients(host: str, port: int) -> dict[str, Any]:
    whole = b"POST /v1/describe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50000\r\n\r\n"

    async def one(place: int) -> bool:
        """Whether the service ended it."""
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(whole if place % 2 else b"P")
            for byte in whole[1:21]:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(1)
                if reader.at_eof():
                    return True
            writer.close()
        except OSError:
            return True
        return False

    ended = await asyncio.gather(*map(one, range(SLOW_CLIENTS)))
    return {"clients": SLOW_CLIENTS, "ended_by_the_service": sum(ended)}


def clock(scene: Scene) -> dict[str, Any]:
    """The clock of the day one hour on, then one hour back, and right again; the monotonic one goes on."""
    assert scene.clock is not None
    seen = []
    for step in ("+1h", "-1h", "+0"):
        scene.clock.write_text(f"{step}\n", encoding="utf-8")
        time.sleep(8)
        seen.append(round(_offset_s(scene.served)))
    return {"offsets_s": seen}


def _offset_s(served: Served) -> float:
    """By how much the clock of the service differs from ours, by the last line of its log."""
    from datetime import datetime

    from benchmarks.scale_out.served import logged

    served.get("/no-such-path")
    time.sleep(0.5)
    entries = logged(served.log()[-20_000:])
    return datetime.fromisoformat(entries[-1]["time"]).timestamp() - time.time() if entries else float("nan")


def reload(scene: Scene) -> dict[str, Any]:
    """A rolling update: another model, and the one before again at the next time."""
    serving = scene.served.metric("dynrefer_model_switches_total")
    status = scene.served.reload(scene.spare if serving % 2 == 0 else "embedded")
    return {"status": status}


FAULTS: dict[str, Callable[[Scene], dict[str, Any]]] = {
    "kill": kill,
    "stall": stall,
    "long stall": long_stall,
    "full disk": disk,
    "slow clients": slow,
    "clock step": clock,
    "reload": reload,
}


def possible(scene: Scene) -> list[str]:
    """The faults that can be done here, in turn."""
    missing = {"full disk": scene.disk is None, "clock step": scene.clock is None}
    return [name for name in FAULTS if not missing.get(name)]


@contextmanager
def small_disk(where: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system of its own in the empty folder `where`, which is removed; None without the right to mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "none", str(where)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield where if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(where)], capture_output=True, check=False)
        where.rmdir()


def clock_environment(file: Path) -> dict[str, str]:
    """Variables under which a process reads its clock of the day through Debian's libfaketime; none without it."""
    library = next((each for each in FAKETIME if Path(each).exists()), None)
    if library is None:
        return {}
    file.write_text("+0\n", encoding="utf-8")
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SLEEP), os.environ.get("PYTHONPATH", "")))),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
