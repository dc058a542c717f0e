"""The model alone: seconds per batch and part, against the floor that the machine's own rates give.

Every repeat measures the machine's product rate before and after the model, and a plain reference in turn where one is
given, and is held against the mean of its own two rates: the rate of a shared machine moves by a fifth within minutes.
Medians; caches off.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dynrefer.model.batch import BatchResult, FeatureCache, RegionInput, run_batch
from dynrefer.model.loading import LoadedModel
from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.profiling.machine import copy_gb_s, gemm_gflops, onednn_gflops, provenance, wait_for
from dynrefer.workbench.profiling.operation_counts import Ceilings, count_costs, floor_seconds
from dynrefer.workbench.profiling.workload import Workload, random_config, random_inputs, random_model

Reference = Callable[[LoadedModel, Sequence[RegionInput]], object]
# Seconds of the official code on an idle machine with two cores and a product rate of 197 GFLOP/s: medium preset,
# float32, all four outputs, by regions (measured once, given with the task of this project).
OFFICIAL_SECONDS, OFFICIAL_GFLOPS = {1: 1.68, 8: 8.74, 32: 35.3}, 197.0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ONEDNN = "float32, oneDNN"


@dataclass(frozen=True)
class Plan:
    """What to measure. tasks: "all" or a task. repeats: timed runs per row, after one that warms up."""

    preset: str
    regions: tuple[int, ...]
    dtypes: tuple[str, ...]
    tasks: tuple[str, ...]
    device: torch.device
    repeats: int = 5
    work: Workload = field(default_factory=Workload)


@dataclass
class _Times:
    """Of one row's repeats. rates: by dtype, GFLOP/s."""

    rates: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    peak_bytes: int = 0  # on a GPU, while a batch runs


def measure_model(plan: Plan, reference: Reference | None, tell: Callable[[str], None]) -> dict[str, Any]:
    """The report, as JSON: rates, and one row per dtype, number of regions and tasks. tell: progress."""
    dtypes = tuple(dict.fromkeys((*plan.dtypes, "float32")))
    copies = [copy_gb_s(plan.device)]
    rows: list[dict[str, Any]] = []
    measured: list[_Times] = []
    for name in plan.dtypes:
        loaded = random_model(random_config(plan.preset, plan.work), plan.work, plan.device, DTYPES[name])
        for regions in plan.regions:
            for tasks in plan.tasks:
                inputs = random_inputs(loaded.network.config, regions, _tasks(tasks))
                times, row = _Times(), _row(plan, name, regions, tasks, inputs)
                for result in _repeat(plan, loaded, inputs, reference, times, dtypes):
                    row["tokens"] = _tokens(result)
                rows.append(row | _medians(times, regions, plan.device))
                measured.append(times)
                tell(f"{name} {regions} {tasks}: {rows[-1]['seconds']:.3f} s")
        del loaded
    copies.append(copy_gb_s(plan.device))
    copy = statistics.median(copies)
    for row, times in zip(rows, measured, strict=True):
        _add_floor(row, plan, times, copy)
        _add_official(row, times)
    gemm = {
        name: statistics.median(one[name] for times in measured for one in times.rates) for name in (*dtypes, ONEDNN)
    }
    return {
        **provenance(plan.device),
        "gemm_gflops": {name: round(rate, 1) for name, rate in gemm.items()},
        "copy_gb_s": round(copy, 1),
        "rows": rows,
    }


def _repeat(
    plan: Plan,
    loaded: LoadedModel,
    inputs: list[RegionInput],
    reference: Reference | None,
    times: _Times,
    dtypes: Sequence[str],
) -> Iterator[BatchResult]:
    memory = FeatureCache(0)
    yield run_batch(loaded, inputs, memory)
    for _ in range(plan.repeats):
        before = _rates(plan, dtypes)
        wait_for(plan.device)
        if plan.device.type == "cuda":  # the matrices of the rates are not the model's
            torch.cuda.reset_peak_memory_stats(plan.device)
        started, worked = time.perf_counter(), time.process_time()
        result = run_batch(loaded, inputs, memory)
        wait_for(plan.device)
        times.seconds.append(time.perf_counter() - started)
        times.processor.append(time.process_time() - worked)
        times.parts.append(result.parts_ms)
        if plan.device.type == "cuda":
            times.peak_bytes = max(times.peak_bytes, torch.cuda.max_memory_allocated(plan.device))
        after = _rates(plan, dtypes)
        times.rates.append({name: (before[name] + after[name]) / 2 for name in before})
        if reference is not None:
            started = time.perf_counter()
            reference(loaded, inputs)
            times.reference.append(time.perf_counter() - started)
        yield result


def _rates(plan: Plan, dtypes: Sequence[str]) -> dict[str, float]:
    """By dtype; and in float32 what oneDNN reaches, which torch itself does not ask for this product."""
    rates = {name: gemm_gflops(DTYPES[name], plan.device, repeats=3) for name in dtypes}
    other = onednn_gflops(plan.device, repeats=3)
    return rates | ({ONEDNN: max(rates["float32"], other)} if other else {})


def _row(plan: Plan, dtype: str, regions: int, tasks: str, inputs: list[RegionInput]) -> dict[str, Any]:
    work = plan.work
    return {
        "preset": plan.preset,
        "regions": regions,
        "dtype": dtype,
        "tasks": tasks,
        "beams": work.beams,
        "views_encoded": sum(len(each.views.images) for each in inputs),
        "texts": [work.tags, work.prompts, work.categories],
    }


def _medians(times: _Times, regions: int, device: torch.device) -> dict[str, Any]:
    seconds = statistics.median(times.seconds)
    parts = {part: statistics.median(one.get(part, 0.0) for one in times.parts) / 1e3 for part in times.parts[0]}
    found: dict[str, Any] = {
        "seconds": round(seconds, 4),
        "processor_seconds": round(statistics.median(times.processor), 4),
        "regions_per_s": round(regions / seconds, 3),
        "stages": {part: round(value, 4) for part, value in parts.items()},
    }
    if times.reference:
        reference = statistics.median(times.reference)
        ratios = [slow / fast for slow, fast in zip(times.reference, times.seconds, strict=True)]
        found |= {"reference_seconds": round(reference, 4), "speedup": round(statistics.median(ratios), 2)}
    if device.type == "cuda":
        found["peak_memory_gb"] = round(times.peak_bytes / 1e9, 2)
    return found


def _add_floor(row: dict[str, Any], plan: Plan, times: _Times, copy: float) -> None:
    """floor_seconds, efficiency = floor / measured, the floors of the stages, by the rates of each repeat; and the
    efficiency where the rate in float32 is oneDNN's."""
    costs = count_costs(plan.preset, plan.work, row["regions"], DTYPES[row["dtype"]])

    def floors_by(float32: str) -> list[dict[str, float]]:
        found = []
        for rates in times.rates:
            own = rates[float32 if row["dtype"] == "float32" else row["dtype"]]
            ceilings = Ceilings(own * 1e9, rates[float32] * 1e9, copy * 1e9)
            stages = {part: floor_seconds(part, cost, ceilings) for part, cost in costs.items()}
            stages["represent"] += stages.pop("qformer")
            found.append({part: stages[part] for part in row["stages"] if part in _needed(row["tasks"])})
        return found

    floors = floors_by("float32")
    totals = {"efficiency": [sum(each.values()) for each in floors]}
    if ONEDNN in times.rates[0]:
        totals["efficiency_onednn"] = [sum(each.values()) for each in floors_by(ONEDNN)]
    encode = [each["encode"] / parts["encode"] * 1e3 for each, parts in zip(floors, times.parts, strict=True)]
    row["gemm_gflops"] = {
        name: round(statistics.median(one[name] for one in times.rates), 1) for name in times.rates[0]
    }
    row["floor_stages"] = {part: round(statistics.median(each[part] for each in floors), 4) for part in floors[0]}
    row["floor_seconds"] = round(statistics.median(totals["efficiency"]), 4)
    for name, some in totals.items():
        row[name] = round(statistics.median(a / b for a, b in zip(some, times.seconds, strict=True)), 3)
    row["vision_share_of_rate"] = round(statistics.median(encode), 3)


def _add_official(row: dict[str, Any], times: _Times) -> None:
    """over_official: times the official code's regions per second for all outputs in float32, as the machine's product
    rate in float32 scales it. rate_ratio: of the row's dtype to float32."""
    if row["preset"] != "medium" or row["regions"] not in OFFICIAL_SECONDS:
        return
    official = [OFFICIAL_SECONDS[row["regions"]] * OFFICIAL_GFLOPS / rates["float32"] for rates in times.rates]
    ratios = [rates[row["dtype"]] / rates["float32"] for rates in times.rates]
    speedups = [slow / taken for slow, taken in zip(official, times.seconds, strict=True)]
    row["over_official"], row["rate_ratio"] = (round(statistics.median(each), 2) for each in (speedups, ratios))


def _needed(tasks: str) -> set[str]:
    """Parts that a row's tasks need; a caption needs the tags."""
    named = {str(task) for task in _tasks(tasks)}
    return {"encode", "represent"} | named | ({"tags"} if "caption" in named else set())


def _tasks(name: str) -> tuple[Task, ...]:
    return ALL_TASKS if name == "all" else (Task(name),)


def _tokens(result: BatchResult) -> int | None:
    """New tokens of the captions: all have the same number, or the workload is not what it says."""
    lengths = {found.caption.length for found in result.findings if found.caption is not None}
    if len(lengths) > 1:
        raise AssertionError(f"captions of different lengths: {sorted(lengths)}")
    return lengths.pop() if lengths else None
