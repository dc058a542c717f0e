"""The model alone: seconds per batch and part, against the floor that the machine's own rates give.

Every repeat measures in turn the machine's product rate, the model and, where one is given, a plain reference, so
that a change of the machine's load meets all of them. Medians; caches off.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from model.batch import BatchResult, Memory, Pass, run_passes
from model.benchmark.counts import Ceilings, count_costs, floor_seconds
from model.benchmark.machine import copy_gb_s, gemm_gflops, provenance, wait_for
from model.benchmark.workload import Workload, random_model, random_passes
from model.loading import LoadedModel
from model.records import ALL_TASKS, Task

Reference = Callable[[LoadedModel, Sequence[Pass]], object]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
    """Of one row's repeats."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)


def measure_model(plan: Plan, reference: Reference | None, tell: Callable[[str], None]) -> dict[str, Any]:
    """The report, as JSON: rates, and one row per dtype, number of regions and tasks. tell: progress."""
    rates: dict[str, list[float]] = {name: [] for name in dict.fromkeys((*plan.dtypes, "float32"))}
    copies = [copy_gb_s(plan.device)]
    rows = []
    for name in plan.dtypes:
        loaded = random_model(plan.preset, plan.work, plan.device, DTYPES[name])
        for regions in plan.regions:
            for tasks in plan.tasks:
                passes = random_passes(loaded.network.config, regions, _tasks(tasks))
                times, row = _Times(), _row(plan, name, regions, tasks, passes)
                for result in _repeat(plan, loaded, passes, reference, times, rates):
                    row["tokens"] = _tokens(result)
                rows.append(row | _medians(times, regions, plan.device))
                tell(f"{name} {regions} {tasks}: {rows[-1]['seconds']:.3f} s")
        del loaded
    copies.append(copy_gb_s(plan.device))
    gemm = {name: statistics.median(found) for name, found in rates.items()}
    copy = statistics.median(copies)
    for row in rows:
        _add_floor(row, plan, gemm, copy)
    return {
        **provenance(),
        "gemm_gflops": {name: round(rate, 1) for name, rate in gemm.items()},
        "copy_gb_s": round(copy, 1),
        "rows": rows,
    }


def _repeat(
    plan: Plan,
    loaded: LoadedModel,
    passes: list[Pass],
    reference: Reference | None,
    times: _Times,
    rates: dict[str, list[float]],
) -> Iterator[BatchResult]:
    memory = Memory(0)
    yield run_passes(loaded, passes, memory)
    for _ in range(plan.repeats):
        for name, found in rates.items():
            found.append(gemm_gflops(DTYPES[name], plan.device, repeats=3))
        wait_for(plan.device)
        started, worked = time.perf_counter(), time.process_time()
        result = run_passes(loaded, passes, memory)
        wait_for(plan.device)
        times.seconds.append(time.perf_counter() - started)
        times.processor.append(time.process_time() - worked)
        times.parts.append(result.parts_ms)
        if reference is not None:
            started = time.perf_counter()
            reference(loaded, passes)
            times.reference.append(time.perf_counter() - started)
        yield result


def _row(plan: Plan, dtype: str, regions: int, tasks: str, passes: list[Pass]) -> dict[str, Any]:
    work = plan.work
    return {
        "preset": plan.preset,
        "regions": regions,
        "dtype": dtype,
        "tasks": tasks,
        "beams": work.beams,
        "views_encoded": sum(len(each.views.images) for each in passes),
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
        found["peak_memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
        torch.cuda.reset_peak_memory_stats(device)
    return found


def _add_floor(row: dict[str, Any], plan: Plan, gemm: dict[str, float], copy: float) -> None:
    """floor_seconds, efficiency = floor / measured, and the floors of the stages."""
    costs = count_costs(plan.preset, plan.work, row["regions"], DTYPES[row["dtype"]])
    ceilings = Ceilings(gemm[row["dtype"]] * 1e9, gemm["float32"] * 1e9, copy * 1e9)
    floors = {part: floor_seconds(part, cost, ceilings) for part, cost in costs.items()}
    floors["represent"] += floors.pop("qformer")
    stages = {part: floors[part] for part in row["stages"] if part in _needed(row["tasks"])}
    row["floor_stages"] = {part: round(value, 4) for part, value in stages.items()}
    row["floor_seconds"] = round(sum(stages.values()), 4)
    row["efficiency"] = round(sum(stages.values()) / row["seconds"], 3)
    row["vision_share_of_rate"] = round(floors["encode"] / row["stages"]["encode"], 3)


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
