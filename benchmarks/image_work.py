"""`python -m benchmarks.image_work` compares image work in worker processes with image work in threads, in one run, and
prints and writes results/image_work.json.

Both services run at the same time and are asked in turn, because the speed of a shared machine moves; each figure is
the median of the rounds. Views per second, latency and growth are those of a service that prepares images as the
embedded model does and computes nothing (benchmarks/preparing_service.py); the starts are those of the embedded model.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attacks import images
from benchmarks.attacks.event_loop import CLIENTS, LONGEST_MS, P99_MS, livez_beside
from benchmarks.attacks.served import MODEL_SERVICE, Answer, Service, Watch, at_once, longest, percentile_ms
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parent / "results" / "image_work.json"
PREPARING_SERVICE = ("benchmarks.preparing_service",)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "threads": {"worker_processes": 0},
    "processes": {"worker_processes": 2},
}

SIDES = {"0.3 MP": (640, 480), "12 MP": (4_000, 3_000), "50 MP": (8_000, 6_000)}
REGIONS, VIEWS = 8, 3  # of a request; of a region
SLOWER_MS = 3.0  # at most, of one small request
START_S = 0.3  # at most, more than in threads

Row = dict[str, Any]


def views_per_second(services: Mapping[str, Service], rounds: int, seconds: float) -> list[Row]:
    """Two clients that request 8 regions of one image at a time, decoding included, without tasks: the views are
    searched for."""
    rng = random.Random(1)
    rows = []
    for name, (width, height) in SIDES.items():
        data = images.smooth_noise(width, height)
        boxes = [_box(rng, width, height) for _ in range(REGIONS)]
        rates: dict[str, list[float]] = {kind: [] for kind in services}
        for _ in range(rounds):
            for kind, service in services.items():
                rates[kind].append(_rate(partial(service.describe, data, boxes, None), seconds))
        ratios = [after / before for before, after in zip(rates["threads"], rates["processes"], strict=True)]
        rows.append(
            {
                "figure": f"views per second, one image of {name}, {REGIONS} regions a request, two clients",
                **{kind: round(statistics.median(each), 1) for kind, each in rates.items()},
                "ratio": round(statistics.median(ratios), 3),
            }
        )
    return rows


def _box(rng: random.Random, width: int, height: int) -> tuple[int, int, int, int]:
    x, y = rng.randrange(width // 2), rng.randrange(height // 2)
    return x, y, x + rng.randrange(width // 8, width // 2), y + rng.randrange(height // 8, height // 2)


def _rate(ask: Callable[[], Answer], seconds: float) -> float:
    """Views per second of two clients; raises SystemExit for an answer other than 200."""
    began = time.perf_counter()

    def client() -> int:
        done = 0
        while time.perf_counter() < began + seconds:
            answer = ask()
            if answer.status != 200:
                raise SystemExit(f"image_work: status {answer.status}: {answer.body[:200]!r}")
            done += 1
        return done

    requests = sum(at_once([client, client]))
    return requests * REGIONS * VIEWS / (time.perf_counter() - began)


def latency(services: Mapping[str, Service], requests: int) -> Row:
    """One region of a thumbnail on an idle service, in turn."""
    times: dict[str, list[float]] = {kind: [] for kind in services}
    for _ in range(requests):
        for kind, service in services.items():
            times[kind].append(service.describe().seconds * 1e3)
    medians = {kind: round(statistics.median(each), 2) for kind, each in times.items()}
    more = statistics.median(b - a for a, b in zip(times["threads"], times["processes"], strict=True))
    return {
        "figure": "one region of a thumbnail, idle, median ms",
        **medians,
        "difference": round(more, 2),
        "target": f"at most {SLOWER_MS:g} ms more",
        "ok": more <= SLOWER_MS,
    }


def hostile_clients(services: Mapping[str, Service], seconds: float) -> list[Row]:
    """/livez and memory while eight clients send the worst legal files; and memory half a minute after them."""
    files = [make() for make in images.worst_legal_files().values()]
    p99: Row = {"figure": f"/livez p99 ms while {CLIENTS} clients send the worst legal files"}
    slowest: Row = {"figure": "the same, longest ms"}
    peak: Row = {"figure": "the same, growth of memory in GB, at its peak"}
    kept: Row = {"figure": "the same, growth of memory in GB, at rest afterwards"}
    for kind, service in services.items():
        before = service.memory_gb()
        with Watch(service.memory_gb, 0.1) as memory:
            livez, statuses = livez_beside(service, files, CLIENTS, seconds)
        service.settle(30)
        p99[kind] = round(percentile_ms(livez, 99), 2)
        slowest[kind] = round(longest(livez) * 1e3, 2)
        peak[kind] = round(max(memory.seen) - before, 3)
        kept[kind] = round(service.memory_gb() - before, 3)
        p99[f"{kind}_answers"] = {status: statuses.count(status) for status in sorted(set(statuses))}
    p99 |= {"target": f"at most {P99_MS:g}", "ok": p99["processes"] <= P99_MS}
    slowest |= {"target": f"at most {LONGEST_MS:g}", "ok": slowest["processes"] <= LONGEST_MS}
    return [p99, slowest, peak, kept]


def start(rounds: int) -> Row:
    """From the start of the process with the embedded model until /readyz is 200, in turn."""
    times: dict[str, list[float]] = {kind: [] for kind in SETTINGS}
    for number in range(rounds + 1):
        for kind, settings in SETTINGS.items():
            began = time.perf_counter()
            with Service(MODEL_SERVICE, **settings):
                if number:  # the first round warms the disk's cache
                    times[kind].append(time.perf_counter() - began)
    medians = {kind: round(statistics.median(each), 2) for kind, each in times.items()}
    more = statistics.median(b - a for a, b in zip(times["threads"], times["processes"], strict=True))
    return {
        "figure": "start to ready, embedded model, median s",
        **medians,
        "difference": round(more, 2),
        "target": f"at most {START_S:g} s more",
        "ok": more <= START_S,
    }


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """All figures. rounds: of each pair. seconds: of one measurement of views."""
    rows: list[Row] = []
    with ExitStack() as stack:
        services = {
            kind: stack.enter_context(Service(PREPARING_SERVICE, max_buffered_bytes=2_000_000_000, **settings))
            for kind, settings in SETTINGS.items()
        }
        for service in services.values():
            service.describe()
        rows.append(latency(services, 60 * rounds))
        rows += views_per_second(services, rounds, seconds)
        rows += hostile_clients(services, 4 * seconds)
    rows.append(start(rounds))
    return {**provenance(), "rounds": rounds, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.image_work", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement of views [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/image_work.json]")
    given = parser.parse_args(arguments)
    report = measure(given.rounds, given.seconds)
    for row in report["rows"]:
        print(json.dumps(row))
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
