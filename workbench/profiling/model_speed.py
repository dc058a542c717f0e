"""Speed of the model alone: seconds per batch and stage, against the roofline bound of the machine.

Every repeat measures the machine's matrix-product rate before and after the model, and is compared with the mean of the
two, because the rate of a shared machine moves by a fifth within minutes. A reference implementation, if given, runs in
turn with the model. Medians; caches off.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dynrefer.model.batch import BatchResult, run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.loading import LoadedModel
from dynrefer.model.preparation import RegionInput
from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.profiling.machine import copy_gb_s, gemm_gflops, heading, onednn_gflops, provenance, synchronize
from dynrefer.workbench.profiling.operation_counts import Ceilings, count_costs, roofline_seconds
from dynrefer.workbench.profiling.workload import Workload, random_config, random_inputs, random_model

Reference = Callable[[LoadedModel, Sequence[RegionInput]], object]
# Seconds of the official code on an idle machine with two cores and a matrix-product rate of 197 GFLOP/s, by number of
# regions: medium preset, float32, all four outputs; measured once.
OFFICIAL_SECONDS, OFFICIAL_GFLOPS = {1: 1.68, 8: 8.74, 32: 35.3}, 197.0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ONEDNN = "float32, oneDNN"


@dataclass(frozen=True)
class Plan:
    """What to measure. tasks: "all" or names of tasks. repeats: timed runs per row, after a warm-up."""

    preset: str
    regions: tuple[int, ...]
    dtypes: tuple[str, ...]
    tasks: tuple[str, ...]
    device: torch.device
    repeats: int = 5
    work: Workload = field(default_factory=Workload)


@dataclass
class _Times:
    """The repeats of one row. rates: matrix products by dtype, GFLOP/s. processor: CPU seconds. parts: ms by stage."""

    rates: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    peak_bytes: int = 0  # GPU memory while a batch runs


def measure_model(
    plan: Plan,
    reference: Reference | None,
    log: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None] = lambda report: None,
) -> dict[str, Any]:
    """The report, JSON-ready: rates, and one row per dtype, number of regions and tasks. log: takes progress lines.

    keep: takes the report so far after every row; "complete" in it is false until the last one.
    """
    dtypes = tuple(dict.fromkeys((*plan.dtypes, "float32")))
    copies = [copy_gb_s(plan.device)]
    rates: list[dict[str, float]] = []
    report = {**provenance(plan.device), "complete": False, "rows": []}
    for name in plan.dtypes:
        loaded = random_model(random_config(plan.preset, plan.work), plan.work, plan.device, DTYPES[name])
        for regions in plan.regions:
            for tasks in plan.tasks:
                inputs = random_inputs(loaded.network.config, regions, _tasks(tasks))
                times, row = _Times(), _row(plan, name, regions, tasks, inputs)
                for result in _repeat(plan, loaded, inputs, reference, times, dtypes):
                    row["tokens"] = _tokens(result)
                row |= _medians(times, regions, plan.device)
                copies.append(copy_gb_s(plan.device))
                _add_roofline(row, plan, times, statistics.median(copies))
                _add_official(row, times)
                rates += times.rates
                report["rows"].append(row)
                keep(report | _peak_rates(rates, copies))
                log(f"{name} {regions} {tasks}: {row['seconds']:.3f} s")
        del loaded
    found = report | _peak_rates(rates, copies) | {"complete": True}
    keep(found)
    return found


def _peak_rates(rates: Sequence[Mapping[str, float]], copies: Sequence[float]) -> dict[str, Any]:
    """Medians over all rows of what the device has; oneDNN's rate is a CPU's only."""
    names = dict.fromkeys(name for one in rates for name in one)
    gemm = {name: statistics.median(one[name] for one in rates if name in one) for name in names}
    return {
        "gemm_gflops": {name: round(rate, 1) for name, rate in gemm.items()},
        "copy_gb_s": round(statistics.median(copies), 1),
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
        synchronize(plan.device)
        if plan.device.type == "cuda":  # leaves out the matrices that the rates were measured with
            torch.cuda.reset_peak_memory_stats(plan.device)
        started, worked = time.perf_counter(), time.process_time()
        result = run_batch(loaded, inputs, memory)
        synchronize(plan.device)
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
    """By dtype; and oneDNN's rate in float32, which torch itself does not use for this product."""
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


def _add_roofline(row: dict[str, Any], plan: Plan, times: _Times, copy: float) -> None:
    """Add the roofline bounds of the batch and its stages ("floor_*"), efficiency = bound / measured seconds, both from
    each repeat's own rates, and the efficiency if oneDNN's float32 rate is taken as the peak."""
    costs = count_costs(plan.preset, plan.work, row["regions"], DTYPES[row["dtype"]])

    def bounds_by(float32: str) -> list[dict[str, float]]:
        found = []
        for rates in times.rates:
            own = rates[float32 if row["dtype"] == "float32" else row["dtype"]]
            ceilings = Ceilings(own * 1e9, rates[float32] * 1e9, copy * 1e9)
            stages = {part: roofline_seconds(part, cost, ceilings) for part, cost in costs.items()}
            stages["represent"] += stages.pop("qformer")
            found.append({part: stages[part] for part in row["stages"] if part in _needed(row["tasks"])})
        return found

    bounds = bounds_by("float32")
    totals = {"efficiency": [sum(each.values()) for each in bounds]}
    if ONEDNN in times.rates[0]:
        totals["efficiency_onednn"] = [sum(each.values()) for each in bounds_by(ONEDNN)]
    encode = [each["encode"] / parts["encode"] * 1e3 for each, parts in zip(bounds, times.parts, strict=True)]
    row["gemm_gflops"] = {
        name: round(statistics.median(one[name] for one in times.rates), 1) for name in times.rates[0]
    }
    row["floor_stages"] = {part: round(statistics.median(each[part] for each in bounds), 4) for part in bounds[0]}
    row["floor_seconds"] = round(statistics.median(totals["efficiency"]), 4)
    for name, some in totals.items():
        row[name] = round(statistics.median(a / b for a, b in zip(some, times.seconds, strict=True)), 3)
    row["vision_share_of_rate"] = round(statistics.median(encode), 3)


def _add_official(row: dict[str, Any], times: _Times) -> None:
    """Add over_official, the speed-up over the official code (all outputs, float32, scaled by the machine's float32
    rate), and rate_ratio, the matrix-product rate of the row's dtype over that of float32."""
    if row["preset"] != "medium" or row["regions"] not in OFFICIAL_SECONDS:
        return
    official = [OFFICIAL_SECONDS[row["regions"]] * OFFICIAL_GFLOPS / rates["float32"] for rates in times.rates]
    ratios = [rates[row["dtype"]] / rates["float32"] for rates in times.rates]
    speedups = [slow / taken for slow, taken in zip(official, times.seconds, strict=True)]
    row["over_official"], row["rate_ratio"] = (round(statistics.median(each), 2) for each in (speedups, ratios))


def _needed(tasks: str) -> set[str]:
    """The stages that a row's tasks need; captions need the tags."""
    named = {str(task) for task in _tasks(tasks)}
    return {"encode", "represent"} | named | ({"tags"} if "caption" in named else set())


def _tasks(name: str) -> tuple[Task, ...]:
    return ALL_TASKS if name == "all" else (Task(name),)


def _tokens(result: BatchResult) -> int | None:
    """Number of new tokens per caption, which must be the same for all; None without captions."""
    lengths = {found[Task.CAPTION].length for found in result.outputs if Task.CAPTION in found}
    if len(lengths) > 1:
        raise AssertionError(f"captions differ in length: {sorted(lengths)}")
    return lengths.pop() if lengths else None


def model_table(report: dict[str, Any]) -> str:
    """The report of `measure_model` as a Markdown table, with the largest gaps to the roofline below it."""
    head = (
        "| dtype | regions | tasks | s | regions/s | GFLOP/s | roofline s | efficiency | by oneDNN's rate | x official "
        "| stages, s |"
    )
    state = [] if report["complete"] else ["**Incomplete: it was interrupted.**", ""]
    lines = [heading(report), "", *state, head, "|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        stages = ", ".join(f"{part} {seconds:.3f}" for part, seconds in row["stages"].items() if seconds >= 5e-4)
        more = f"; {row['speedup']} x the reference path" if "speedup" in row else ""
        lines.append(
            f"| {row['dtype']} | {row['regions']} | {row['tasks']} | {row['seconds']:.3f} | {row['regions_per_s']:.2f} "
            f"| {row['gemm_gflops'][row['dtype']]:.0f} | {row['floor_seconds']:.3f} | {row['efficiency']:.2f} "
            f"| {row.get('efficiency_onednn', '')} "
            f"| {row.get('over_official', '')} | {stages}{more} |"
        )
    return "\n".join([*lines, "", *map(_gaps, report["rows"])])


def _gaps(row: dict[str, Any]) -> str:
    """The two stages that lie farthest above their roofline bounds."""
    above = {part: row["stages"][part] - bound for part, bound in row["floor_stages"].items()}
    worst = sorted(above, key=lambda part: -above[part])[:2]
    named = (f"{part} {row['stages'][part]:.3f} s over {row['floor_stages'][part]:.3f} s" for part in worst)
    return f"{row['dtype']}, {row['regions']} regions, {row['tasks']}: largest gaps {', '.join(named)}"
