"""`python -m benchmarks.scale_out.load PLAN.json OUT.json`: clients that ask one request after another (closed loop).

In a process of its own, whose processor time is reported with what was answered. Every request brings the same image
with regions of its own, because the network encodes equal views once, and asks for all four outputs.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.attacks.served import BOUNDARY, Client
from benchmarks.offline import SCENE, random_boxes
from benchmarks.scale_out.exchanges import Manner, Pool

HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Plan:
    """clients: each asks for `regions` at a time, for `seconds`."""

    host: str
    port: int
    clients: int
    regions: int
    seconds: float
    seed: int = 1


@dataclass(frozen=True)
class Loaded:
    """statuses, latencies_s: of all requests in the order of their ends, which are at `ended_s` after the beginning.
    core_s: processor time of the generator. errors: of requests without an answer."""

    plan: Plan
    statuses: list[int]
    latencies_s: list[float]
    ended_s: list[float]
    core_s: float
    errors: list[str]

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(status != 200 for status in self.statuses)

    @property
    def regions_per_s(self) -> float:
        """Between the first quarter, in which queues fill, and the time at which clients stop to ask."""
        begin, end = self.plan.seconds / 4, self.plan.seconds
        done = sum(s == 200 and begin <= at <= end for s, at in zip(self.statuses, self.ended_s, strict=True))
        return self.plan.regions * done / (end - begin)

    def ms(self, percent: float) -> float:
        """A percentile of the latencies of what was answered."""
        good = [taken for status, taken in zip(self.statuses, self.latencies_s, strict=True) if status == 200]
        return round(float(np.percentile(good, percent)) * 1e3, 1) if good else float("nan")


def body(regions: int, rng: random.Random) -> bytes:
    """A form with an image of 231 x 221 pixels and random regions of 0.3 of its sides."""
    boxes = [{"box": [round(value, 4) for value in box]} for box in random_boxes(regions, rng)]
    request = json.dumps({"regions": boxes, "normalized": True}).encode()
    parts = ((b"request", request), (b"image", Path(SCENE).read_bytes()))
    written = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n' % (BOUNDARY, name, content)
        for name, content in parts
    )
    return written + b"--%s--\r\n" % BOUNDARY


async def carry_out(plan: Plan) -> Loaded:
    """Ask until the time is over, and wait for the last answers."""
    rng, pool, began = random.Random(plan.seed), Pool(plan.host, plan.port), time.perf_counter()
    statuses: list[int] = []
    latencies: list[float] = []
    ended: list[float] = []
    errors: list[str] = []

    async def client() -> None:
        while time.perf_counter() - began < plan.seconds:
            answer = await pool.ask("/v1/describe", HEADERS, body(plan.regions, rng), Manner(patience_s=PATIENCE_S))
            statuses.append(answer.status)
            latencies.append(round(answer.seconds, 5))
            ended.append(round(time.perf_counter() - began, 3))
            if answer.status != 200:
                errors.append(answer.error or answer.body.decode(errors="replace")[:200])

    spent = time.process_time()
    await asyncio.gather(*(client() for _ in range(plan.clients)))
    pool.close()
    return Loaded(plan, statuses, latencies, ended, time.process_time() - spent, errors[:20])


class Running:
    """A load in its process. loaded: what came of it, after the `with` block of `begun`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.loaded: Loaded


@contextmanager
def begun(service: Client, clients: int, regions: int, seconds: float, seed: int = 1) -> Iterator[Running]:
    """A load that runs meanwhile; the block ends with it. Raises SystemExit where the generator fails."""
    plan = Plan(service.host, service.port, clients, regions, seconds, seed)
    with tempfile.TemporaryDirectory() as name:
        where, out = Path(name) / "plan.json", Path(name) / "out.json"
        where.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.scale_out.load", str(where), str(out)])
        running = Running(process.pid)
        yield running
        if process.wait():
            raise SystemExit("scale_out: the load generator failed; see its message above.")
        found = json.loads(out.read_text(encoding="utf-8"))
        running.loaded = Loaded(**{**found, "plan": plan})


def load(service: Client, clients: int, regions: int, seconds: float, seed: int = 1) -> Loaded:
    """A load to its end."""
    with begun(service, clients, regions, seconds, seed) as running:
        pass
    return running.loaded


def main() -> None:
    """The command."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(asdict(asyncio.run(carry_out(plan)))), encoding="utf-8")


if __name__ == "__main__":
    main()
