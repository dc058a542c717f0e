"""What is measured of each system: a lone client, saturation, memory; and two replicas when one dies, when their model
is replaced, and when their number follows the load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.scale_out.load import Loaded, begun, load
from benchmarks.scale_out.processes import await_that, cpu_s, shares
from benchmarks.scale_out.served import Served

CLIENTS, REGIONS = 8, 8  # of saturation
RAYS = ("gcs", "raylet", "controller", "agent", "idle worker", "other", "proxy")


def measured(served: Served, seconds: float) -> dict[str, Any]:
    """A lone client of 1 and of 8 regions, saturation, memory before and after; `seconds` for each load."""
    load(served, 4, 4, seconds / 2)  # warms what is made once
    idle = shares(served.edge)
    alone = {str(regions): row(served, 1, regions, seconds) for regions in (1, 8)}
    saturated = row(served, CLIENTS, REGIONS, 2 * seconds)
    return {
        "start_s": round(served.start_s, 1),
        "alone": alone,
        "saturated": saturated,
        "memory": {"idle": _memory(idle), "after load": _memory(shares(served.edge))},
    }


def _memory(found: Any) -> dict[str, Any]:
    rows = {
        name: {"processes": each.processes, "uss_mb": round(each.uss / 1e6), "pss_mb": round(each.pss / 1e6)}
        for name, each in found.items()
    }
    total = {key: sum(each[key] for each in rows.values()) for key in ("processes", "uss_mb", "pss_mb")}
    return {"total": total, **rows}


def row(served: Served, clients: int, regions: int, seconds: float) -> dict[str, Any]:
    """One load, with the processor time of every role per request."""
    ours = [0]
    before, began = cpu_s(served.edge), time.monotonic()
    with begun(served, clients, regions, seconds) as running:
        ours[0] = running.pid
    spent = {name: value - before.get(name, 0.0) for name, value in cpu_s(served.edge, ours).items()}
    return {**figures(running.loaded), **_core_s(spent, running.loaded, time.monotonic() - began)}


def figures(loaded: Loaded) -> dict[str, Any]:
    """Of a load."""
    return {
        "clients": loaded.plan.clients,
        "regions": loaded.plan.regions,
        "requests": len(loaded.statuses),
        "failed": loaded.failed,
        "regions_per_s": round(loaded.regions_per_s, 2),
        "p50_ms": loaded.ms(50),
        "p99_ms": loaded.ms(99),
        "longest_ms": loaded.ms(100),
        **({"errors": loaded.errors} if loaded.errors else {}),
    }


def _core_s(spent: dict[str, float], loaded: Loaded, seconds: float) -> dict[str, Any]:
    requests = max(1, len(loaded.statuses))
    return {
        "core_s_per_request": {name: round(value / requests, 4) for name, value in spent.items()},
        "generator_core_s_per_request": round(loaded.core_s / requests, 5),
        "ray_cores": round(sum(value for name, value in spent.items() if name in RAYS) / seconds, 3),
    }


def under_load(served: Served, seconds: float, after_s: float, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A load of six clients, four regions each, in which `act` is called after a while; what it returns is added."""
    notes: dict[str, Any] = {}

    def later() -> None:
        time.sleep(after_s)
        notes.update(act())

    thread = threading.Thread(target=later)
    with begun(served, 6, 4, seconds) as running:
        thread.start()
    thread.join()
    return {**figures(running.loaded), **notes}


def killed(served: Served, seconds: float) -> dict[str, Any]:
    """SIGKILL for one of the replicas under load."""

    def kill() -> dict[str, Any]:
        known = {each.pid for each in served.replicas()}
        served.replicas()[0].kill()
        time.sleep(1.5)  # the edge asks its replicas once a second: by then it knows

        def back() -> bool:
            found = {each.pid for each in served.replicas()}
            return bool(found - known) and served.replicas_answering() >= len(known)

        took = await_that(back, 120, 0.25)
        return {"replaced_after_s": None if took is None else round(took + 1.5, 1)}

    again = served.metric("dynrefer_replica_calls_again_total")
    found = under_load(served, seconds, 5, kill)
    return {**found, "calls_made_again": served.metric("dynrefer_replica_calls_again_total") - again}


def updated(served: Served, seconds: float, model: str) -> dict[str, Any]:
    """Another model under load, and the one before again."""

    def switch() -> dict[str, Any]:
        notes: dict[str, Any] = {"statuses": [], "took_s": []}
        for name in (model, "embedded"):
            began = time.monotonic()
            notes["statuses"].append(served.reload(name))
            notes["took_s"].append(round(time.monotonic() - began, 1))
        return notes

    return under_load(served, seconds, 5, switch)


def scaled(served: Served, seconds: float, fewest: int, most: int) -> dict[str, Any]:
    """A load that one replica cannot carry, and none again: when their number follows."""
    seen: list[tuple[float, int]] = []
    over, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(0.5):
            number = served.replicas_answering()
            if not seen or seen[-1][1] != number:
                seen.append((round(time.monotonic() - began, 1), number))

    thread = threading.Thread(target=watch)
    thread.start()
    loaded = load(served, 8, 8, seconds)
    idle_from = round(time.monotonic() - began, 1)
    await_that(lambda: served.replicas_answering() <= fewest, 180, 0.5)
    time.sleep(1)
    over.set()
    thread.join()
    up = next((at for at, number in seen if number >= most), None)
    down = next((at for at, number in seen if at > idle_from and number <= fewest), None)
    return {
        **figures(loaded),
        "replicas_at_s": seen,
        "all_after_s": up,
        "load_ended_at_s": idle_from,
        "fewest_after_idle_s": None if down is None else round(down - idle_from, 1),
    }
