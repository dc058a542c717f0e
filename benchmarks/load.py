"""Runs benchmarks/arrivals.py, the load generator, in a process of its own, and computes metrics from its records."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore2
import numpy as np

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """Durations and counts of a run. seconds: of a short phase. round_seconds: of the offline loop; half of it for one
    client, one and a half times as much for eight. drain_after_seconds: of overload before SIGTERM."""

    seconds: float
    rounds: int
    round_seconds: float
    beside_seconds: float
    requests: int
    overload_seconds: float
    drain_after_seconds: float


@dataclass(frozen=True)
class Row:
    """One line of the table. ok: None if there is no target."""

    figure: str
    value: str
    target: str
    ok: bool | None


class Bench:
    """A running service and the load on it."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder

    def load(self, **plan: Any) -> Records:
        """Run a load to its end; its records."""
        running, out = self.begin(**plan)
        if running.wait():
            raise SystemExit("the load generator failed; see its message above.")
        return read(out)

    def await_traffic(self) -> None:
        """Wait until a load that was begun has reached the service."""
        before = self._answered()
        while self._answered() < before + 5:
            time.sleep(0.05)

    def _answered(self) -> float:
        """Number of responses to /v1/describe so far, with any status."""
        text = httpcore2.request("GET", self._address + "/metrics").content.decode()
        lines = [line for line in text.splitlines() if line.startswith("dynrefer_requests_total{")]
        return sum(float(line.split()[1]) for line in lines if 'route="/v1/describe"' in line)

    def begin(self, **plan: Any) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a load; its process and the file that it will write."""
        number = len(list(self._folder.glob("plan*")))
        where, out = self._folder / f"plan{number}.json", self._folder / f"out{number}.jsonl"
        where.write_text(json.dumps({"address": self._address, **plan}), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.arrivals", str(where), str(out)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL), out


def read(out: Path) -> Records:
    """One record per line."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def ms(records: Records, percent: float, kind: str = "good", *statuses: int) -> float:
    """A percentile of the latency of records of a kind (and statuses), in milliseconds; NaN without any."""
    times = [
        each["seconds"] for each in records if each["kind"] == kind and (not statuses or each["status"] in statuses)
    ]
    return float(np.percentile(times, percent)) * 1e3 if times else float("nan")


def rate(records: Records, regions: int = 1) -> float:
    """Regions per second of good requests answered with 200 while requests were arriving, without the first quarter, in
    which queues fill."""
    good = [each for each in records if each["kind"] == "good"]
    first, last = min(each["due"] for each in good), max(each["due"] for each in good)
    begin = first + (last - first) / 4
    done = sum(each["status"] == 200 and begin <= each["due"] + each["seconds"] <= last for each in good)
    return float(regions * done / max(last - begin, 1e-9))
