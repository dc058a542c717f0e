"""Predictions of the simulation beside what was measured: two replicas on one small machine, and a card's service.

Every figure that goes into a prediction is a time or a rate of a step measured alone; no constant is fitted to what is
to be predicted. A prediction within TOLERANCE counts as right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.scaling.costs import COSTS, RESULTS, CallCosts, Costs, ImageCosts, gpu, gpu_files, load
from benchmarks.scaling.fleet import Outcome, Plan, closed_loop
from benchmarks.scaling.replicas import Curve, DeviceCosts
from benchmarks.scaling.sizing import without_ray
from benchmarks.scaling.traffic import ImageSize, Mix

SCALE_OUT = RESULTS / "scale_out.json"
TOLERANCE = 0.15
SECONDS, WARM_S = 120.0, 20.0
BATCH_REGIONS = 16  # the default on a CPU
WORKERS = 2  # likewise
GPU_CORES = 16  # of the machine of the measured card
GPU_ROWS = ((1, 1), (1, 8), (2, 8), (4, 8), (8, 8), (16, 8), (32, 8), (32, 1))  # clients, regions: those of gpu_check
GPU_MEGAPIXELS = 0.24  # of gpu_check's image


@dataclass(frozen=True)
class Compared:
    """error: (predicted - measured) / measured. judged: whether the figure is one that the simulation must hit."""

    where: str
    what: str
    unit: str
    measured: float
    predicted: float
    judged: bool = True

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return (self.predicted - self.measured) / self.measured

    @property
    def ok(self) -> bool:
        """Whether it is close enough."""
        return abs(self.error) <= TOLERANCE

    def row(self) -> dict[str, Any]:
        """For the file of results."""
        return {**asdict(self), "error": round(self.error, 3), "ok": self.ok}


def two_replicas(path: Path = SCALE_OUT) -> list[Compared]:
    """The runs of benchmarks/scale_out.py; empty where it is not there, or has no times for a prediction."""
    if not path.is_file():
        return []
    given = json.loads(path.read_text(encoding="utf-8")).get("simulation")
    return [] if not given else [each for run in given["runs"] for each in _run(given, run)]


def _run(given: Mapping[str, Any], run: Mapping[str, Any]) -> list[Compared]:
    costs = small_machine(given)
    plan = Plan(
        int(run["replicas"]),
        1,
        one_machine=True,
        workers=WORKERS,
        shared_cores=given["cores"] - given.get("ray_core_share", 0.0),
    )
    found = closed_loop(
        plan, costs, int(run["clients"]), int(run["regions"]), SECONDS, WARM_S, given.get("generator_core_s", 0.0)
    )
    name = f"{run['replicas']} replica(s), {run['clients']} clients x {run['regions']} regions"
    return _compared(f"embedded model, two cores: {name}", run, found)


def _compared(where: str, run: Mapping[str, Any], found: Outcome) -> list[Compared]:
    return [
        Compared(where, "throughput", "regions/s", float(run["regions_per_s"]), round(found.regions_per_s, 2)),
        Compared(where, "p50", "ms", float(run["p50_ms"]), round(found.ms(50), 1)),
        *(
            [Compared(where, "p99", "ms", float(run["p99_ms"]), round(found.ms(99), 1), False)]
            if run.get("p99_ms")
            else []
        ),
    ]


def small_machine(given: Mapping[str, Any]) -> Costs:
    """The costs of the two-replica measurement: each a line through requests of one region and of several."""

    def line(name: str) -> tuple[float, float]:
        values = {int(regions): float(value) for regions, value in given.get(name, {"1": 0.0}).items()}
        few, many = min(values), max(values)
        per_region = (values[many] - values[few]) / (many - few) if many > few else 0.0
        return max(0.0, values[few] - few * per_region), max(0.0, per_region)

    prepare, per_region = line("prepare_core_s")
    edge, edge_region = line("edge_core_s")
    replica, replica_region = line("replica_core_s")
    batches = {int(regions): float(value) for regions, value in given["batch_s"].items()}
    return Costs(
        mix=Mix((ImageSize(0.0, 1.0),), 1.0),
        images=(ImageCosts(0.0, 0, prepare, 0.0, per_region),),
        device=DeviceCosts("CPU", BATCH_REGIONS, batch_s=Curve.of(batches, proportional=True)),
        request_s=edge,
        answered_region_s=edge_region,
        edge=CallCosts(),  # the edge's times hold its calls
        replica=CallCosts(replica, replica_region),
        sender=CallCosts(),
        receiver=CallCosts(),
        order_s=Curve.of({1: 0.0}, proportional=True),
        controller_s=0.0,
        controller_replica_s=0.0,
        view_bytes=0,
        answer_bytes=0,
    )


def served_card(name: str) -> list[Compared]:
    """The plain service of a measured card, in closed loops. Empty where its file has no such rows."""
    figures = json.loads(gpu_files()[name].read_text(encoding="utf-8"))["figures"]
    rows = {each["name"]: each for each in figures if each["part"] == "service"}
    found = []
    for clients, regions in GPU_ROWS:
        row = rows.get(f"{clients} x {regions}, all")
        p50 = rows.get(f"{clients} x {regions}, all, p50")
        if row is None or p50 is None:
            continue
        plan = Plan(1, 1, GPU_CORES, one_machine=True, policy="its own")
        predicted = closed_loop(plan, served(name, rows), clients, regions, SECONDS / 2, WARM_S / 2)
        run = {"regions_per_s": row["value"], "p50_ms": p50["value"]}
        found += _compared(f"{name.upper()}, plain service: {clients} clients x {regions} regions", run, predicted)
    return found


def served(name: str, rows: Mapping[str, Any]) -> Costs:
    """The costs of a card's plain service: image work and the server's own as measured there, where the file has it,
    else as measured here."""
    costs = without_ray(load(gpu(name), path=COSTS))
    image = replace(costs.images[0], megapixels=GPU_MEGAPIXELS)
    few, many = (rows.get(f"1 x {regions}, all", {}).get("detail", {}) for regions in (1, 8))
    if "worker_core_s_per_image" in few and "worker_core_s_per_image" in many:
        region_s = (many["worker_core_s_per_image"] - few["worker_core_s_per_image"]) / 7
        image = replace(
            image, decode_s=max(0.0, few["worker_core_s_per_image"] - region_s), views_s=0.0, region_s=region_s
        )
    if "server_core_s_per_image" in few and "server_core_s_per_image" in many:
        own = [
            each["server_core_s_per_image"] - each.get("device_thread_core_s_per_image", 0.0) for each in (few, many)
        ]
        region_s = max(0.0, (own[1] - own[0]) / 7)
        costs = replace(costs, request_s=max(0.0, own[0] - region_s), answered_region_s=region_s)
    return replace(costs, mix=Mix((ImageSize(GPU_MEGAPIXELS, 1.0),), 1.0), images=(image,))


def table(rows: list[Compared]) -> str:
    """Side by side."""
    lines = ["| where | what | measured | predicted | error | within 15 % |", "|---|---|---|---|---|---|"]
    for each in rows:
        verdict = ("yes" if each.ok else "**no**") if each.judged else "not judged"
        value = f"{each.measured:.1f} | {each.predicted:.1f} {each.unit}"
        lines.append(f"| {each.where} | {each.what} | {value} | {each.error:+.0%} | {verdict} |")
    return "\n".join(lines)
