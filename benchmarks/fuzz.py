"""`python -m benchmarks.fuzz` sends damaged images and damaged requests to a real service process, and checks that each
is answered with 2xx or 4xx and that memory stays flat.

The service runs a predictor that does nothing, so that only request handling is tested. The same seed sends the same
bytes. Exits with 1 if a response is 5xx or missing, or if memory grows.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import httpcore2
import numpy as np

from benchmarks.corpus import Sample, damaged_bodies, damaged_images

WARM_UP = 0.25  # fraction of the run after which memory has to be flat
FLAT_MB = 16.0  # growth over the rest that counts as noise
TIMEOUT_S = 120


@dataclass
class Responses:
    """answers: status -> count. bad: the others than 2xx and 4xx. memory_mb: resident memory of the service, sampled
    evenly over the run."""

    answers: Counter[int] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """From a straight line fitted to the samples after the warm-up."""
        rest = self.memory_mb[int(len(self.memory_mb) * WARM_UP) :]
        if len(rest) < 2:
            return 0.0
        return float(np.polyfit(np.arange(len(rest)), rest, 1)[0] * (len(rest) - 1))

    @property
    def passed(self) -> bool:
        """Whether every response was 2xx or 4xx and memory stayed flat."""
        return not self.bad and self.growth_mb < FLAT_MB


@contextmanager
def service(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a service process and yield it with its address once it is ready; kill it at the end if it still runs.

    command: module and arguments; by default the service with a predictor that does nothing.
    """
    environment = {"DYNREFER_LOG_LEVEL": "error", **os.environ, "DYNREFER_PORT": "0"}
    line = [sys.executable, "-m", *(command or ("tests.serve_fake",))]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, env=environment, text=True)
    try:
        assert process.stderr is not None
        address = _address(process.stderr)
        until = time.monotonic() + TIMEOUT_S
        while httpcore2.request("GET", address + "/readyz").status != 200:
            if time.monotonic() > until:
                raise SystemExit("the service did not become ready.")
            time.sleep(0.05)
        yield process, address
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _address(lines: IO[str]) -> str:
    """Where a service listens, by what it writes; all else that it writes, then and later, is passed on."""
    for line in lines:
        if line.startswith("Listening on "):
            # Read to its end, for a pipe that is full would stop the service.
            threading.Thread(target=sys.stderr.writelines, args=(lines,), daemon=True).start()
            return line.split()[-1]
        sys.stderr.write(line)
    raise SystemExit("the service ended before it listened.")


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in units of 10^6 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def send(address: str, pid: int, samples: Iterable[Sample], every: int, keep: Path | None) -> Responses:
    """Send samples one after another on one connection; read the memory every `every` samples. keep: folder for samples
    with a bad response."""
    responses = Responses()
    with httpcore2.ConnectionPool(retries=1) as pool:
        for number, sample in enumerate(samples):
            try:
                limits = {"timeout": {"connect": TIMEOUT_S, "read": TIMEOUT_S, "write": TIMEOUT_S}}
                headers = {"Content-Type": sample.content_type, "Host": "x"}
                answer = pool.request(
                    "POST", address + "/v1/describe", headers=headers, content=sample.body, extensions=limits
                )
                status = answer.status
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
                status = 0  # no response
            responses.answers[status] += 1
            if not (200 <= status < 300 or 400 <= status < 500):
                responses.bad.append(f"{number}: {sample.origin}: {status}")
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}.body").write_bytes(sample.body)
            if number % every == 0:
                responses.memory_mb.append(memory_mb(pid))
    return responses


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000, help="damaged images")
    parser.add_argument("--bodies", type=int, default=5_000, help="damaged requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for samples with a bad response")
    options = parser.parse_args()
    total = options.pictures + options.bodies
    samples = itertools.chain(
        damaged_images(options.seed, options.pictures), damaged_bodies(options.seed, options.bodies)
    )
    began = time.monotonic()
    with service() as (process, address):
        responses = send(address, process.pid, samples, max(1, total // 100), options.keep)
        alive = process.poll() is None
    report = {
        "requests": total,
        "seconds": round(time.monotonic() - began, 1),
        **asdict(responses),
        "answers": dict(sorted(responses.answers.items())),
        "memory_mb": [round(each, 1) for each in responses.memory_mb[:: max(1, len(responses.memory_mb) // 10)]],
        "growth_mb": round(responses.growth_mb, 2),
        "alive": alive,
        "passed": responses.passed and alive,
    }
    print(json.dumps(report, indent=2))
    raise SystemExit(not report["passed"])


if __name__ == "__main__":
    main()
