"""What the simulation of benchmarks/scaling is fed with and checked against, out of the figures measured here."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.scale_out.served import ONE, TWO

Rounds = Sequence[dict[str, Any]]


def simulation(systems: dict[str, Rounds], batch: dict[str, Any], crowded: dict[str, Any]) -> dict[str, Any]:
    """See benchmarks/scaling for what each member means. Seconds; medians over the rounds.

    batch: what batches take alone. crowded: while more processes than there are cores compute the same, which is how
    the service runs when it is saturated: then the same work takes more processor time. What was measured of requests
    that came one at a time is taken to grow as decoding and cutting does, which is work of its kind.
    """
    one, two = systems[ONE.name], systems[TWO.name]
    sizes = ("1", "8")
    grown = _median([crowded["decode_and_cut_core_s"][size] / batch["decode_and_cut_core_s"][size] for size in sizes])
    return {
        "cores": os.cpu_count(),
        "crowding": grown,
        "batch_s": crowded["batch_core_s"],
        "prepare_core_s": {size: round(grown * _spent(one, size, "image worker"), 4) for size in sizes},
        "edge_core_s": {size: round(grown * _spent(one, size, "edge"), 4) for size in sizes},
        "replica_core_s": {
            size: round(grown * max(0.0, _spent(one, size, "replica") - batch["batch_core_s"][size]), 4)
            for size in sizes
        },
        "generator_core_s": _median([each["saturated"]["generator_core_s_per_request"] for each in (*one, *two)]),
        "ray_core_share": _median([each["saturated"]["ray_cores"] for each in (*one, *two)]),
        "alone": {size: {"p50_ms": _median([each["alone"][size]["p50_ms"] for each in one])} for size in sizes},
        "runs": [_run(1, one), _run(2, two)],
    }


def _spent(rounds: Rounds, size: str, role: str) -> float:
    return _median([each["alone"][size]["core_s_per_request"].get(role, 0.0) for each in rounds])


def _run(replicas: int, rounds: Rounds) -> dict[str, Any]:
    first = rounds[0]["saturated"]
    keys = ("regions_per_s", "p50_ms", "p99_ms")
    figures = {key: _median([each["saturated"][key] for each in rounds]) for key in keys}
    return {"replicas": replicas, "clients": first["clients"], "regions": first["regions"], **figures}


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)
