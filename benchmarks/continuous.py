"""`python -m benchmarks.continuous`: the engine in front of a fake device, with continuous batching and whole batches.

The engine, its queue and its threads are the real ones; there is no HTTP, images are of one colour, and the device
sleeps: 5 ms for a step of up to 64 regions, 20 steps a region. In the second half it also encodes views, in the way
of the steps: 2 ms for those that join together and 3.3 ms for each of them, as measured on an H100 (96 views in
105 ms); newcomers then have their turn at every fourth step, at most 16 at a time: fewer than 64 x 4 / 20 would leave
places empty, more would hold up the others.

The device's rate is what it would do without a pause with as many regions as the clients have waiting, at most 64 at
a time. Both ways take turns, scenario by scenario. Writes results/continuous.json.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dynrefer.model import BatchLimits, DecodedImage, ImageInfo, RegionQuery
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Phase
from dynrefer.service.workers.image_task import DescribeInput
from dynrefer.workbench.profiling.machine import provenance
from tests.fake_batch import FakeBatch
from tests.fake_preparation import FakeRegion
from tests.fakes import CARD, FakePredictor, answer, context_of, local_engine

RESULT = Path(__file__).parent / "results" / "continuous.json"
IMAGE = DecodedImage(np.zeros((48, 64, 3), dtype=np.uint8), ImageInfo(64, 48))
STEP_S, STEPS, CAPACITY = 0.005, 20, 64
WARM_UP_S, SECONDS = 1.0, 10.0
PAUSE_S = 0.03  # of the client with one region beside a large request


class Sleep:
    """Called with steps, it takes their time; what a sleep is longer than asked for, the next one is shorter."""

    def __init__(self) -> None:
        self._late_s = 0.0

    def __call__(self, steps: float) -> None:
        began = time.perf_counter()
        asked_s = steps * STEP_S - self._late_s
        time.sleep(max(0.0, asked_s))
        self._late_s = time.perf_counter() - began - asked_s


@dataclass(frozen=True)
class Device:
    """admission_ms: for regions that join together; item_ms: for each of them. every: steps between newcomers. views:
    of those that may join together."""

    name: str
    admission_ms: float
    item_ms: float
    every: int
    views: int

    def batch(self) -> FakeBatch[FakeRegion, float]:
        """It, asleep for as long as it would work."""
        return FakeBatch(
            answer,
            cost=lambda region: region.num_views,
            steps=STEPS,
            capacity=CAPACITY,
            every=self.every,
            views=self.views,
            admission_time=self.admission_ms / 1e3 / STEP_S,
            item_time=self.item_ms / 1e3 / STEP_S,
            pace=Sleep(),
        )

    def rate(self, regions: int) -> float:
        """Regions per second with so many at a time."""
        return regions / (STEPS * STEP_S + (self.admission_ms + regions * self.item_ms) / 1e3)


DEVICES = (Device("steps", 0.0, 0.0, 1, 3 * CAPACITY), Device("steps and vision", 2.0, 3.3, 4, 48))


@dataclass(frozen=True)
class Scenario:
    """clients, each with requests of so many regions, one after another. beside: whether one more client, with one
    region, is what is looked at."""

    clients: int
    regions: int
    beside: bool = False

    @property
    def name(self) -> str:
        """For the table."""
        return f"1 beside {self.regions}" if self.beside else f"{self.clients} x {self.regions}"


SCENARIOS = (Scenario(1, 1), Scenario(32, 1), Scenario(16, 8), Scenario(1, 128, beside=True))


def engine_of(device: Device, continuous: bool) -> tuple[Engine, FakeBatch[FakeRegion, float]]:
    """An engine whose device runs the regions in one of the two ways."""
    batch = device.batch()
    # Not on the cores that prepare images.
    card = replace(CARD, device="cuda:0")
    predictor = FakePredictor(card, limits=BatchLimits(CAPACITY, 3 * CAPACITY))
    if continuous:
        predictor.batch = batch
    else:
        predictor.run_hook = lambda boxes: batch.run([None] * len(boxes), lambda: False) and None  # type: ignore[list-item]
        batch.answer = lambda region: 0.0
    return local_engine(lambda: predictor, max_regions=128, max_queue_regions=1_024), batch


async def describe(engine: Engine, regions: int) -> float:
    """How long one request takes, seconds."""
    queries = [RegionQuery(box=(0.0, 0.0, 8.0, 1.0 + index % 40)) for index in range(regions)]
    request = DescribeInput(regions, b"", lambda data, on_header: IMAGE, lambda info: queries)
    began = time.perf_counter()
    await engine.describe(request, context_of())
    return time.perf_counter() - began


async def client(engine: Engine, regions: int, until: float, found: list[tuple[float, float]], pause_s: float) -> None:
    """(when it ended, how long it took) of one request after another."""
    while time.perf_counter() < until:
        seconds = await describe(engine, regions)
        found.append((time.perf_counter(), seconds))
        await asyncio.sleep(pause_s)


async def measure(device: Device, scenario: Scenario, continuous: bool) -> dict[str, Any]:
    """A row of the table: seconds of requests, and regions per second, after the warm-up."""
    engine, batch = engine_of(device, continuous)
    engine.start()
    while engine.phase is not Phase.READY:
        await asyncio.sleep(0.01)
    start = time.perf_counter() + WARM_UP_S
    end = start + SECONDS
    many: list[tuple[float, float]] = []
    one: list[tuple[float, float]] = []
    clients = [client(engine, scenario.regions, end, many, 0.0) for _ in range(scenario.clients)]
    if scenario.beside:
        clients.append(client(engine, 1, end, one, PAUSE_S))
    await asyncio.gather(*clients)
    await engine.stop(grace_s=10)
    done = [ended for ended, _ in many if start <= ended < end]
    times = [seconds for ended, seconds in (one if scenario.beside else many) if start <= ended < end]
    regions_per_s = len(done) * scenario.regions / SECONDS
    rate = device.rate(min(scenario.clients * scenario.regions, CAPACITY))
    return {
        "device": device.name,
        "scenario": scenario.name,
        "batching": "continuous" if continuous else "whole",
        "regions_per_s": round(regions_per_s, 1),
        "device_regions_per_s": round(rate, 1),
        "of_device": round(regions_per_s / rate, 3),
        "p50_ms": round(statistics.median(times) * 1e3, 1),
        "p99_ms": round(float(np.quantile(times, 0.99)) * 1e3, 1),
        "requests": len(times),
        "regions_per_step": round(statistics.mean(batch.rows[STEPS:]), 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Both ways side by side."""
    lines = ["| device | clients x regions | batching | regions/s | of the device's rate | p50 ms | p99 ms |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        shown = [row[name] for name in ("device", "scenario", "batching", "regions_per_s", "of_device")]
        lines.append(f"| {' | '.join(map(str, shown))} | {row['p50_ms']} | {row['p99_ms']} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all and write the file."""
    rows = [
        asyncio.run(measure(device, scenario, continuous))
        for device in DEVICES
        for scenario in SCENARIOS
        for continuous in (True, False)
    ]
    report = {
        **provenance(),
        "step_ms": STEP_S * 1e3,
        "steps": STEPS,
        "capacity": CAPACITY,
        "devices": [asdict(device) for device in DEVICES],
        "rows": rows,
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
