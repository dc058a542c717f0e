"""What the feature cache saves: a first task on a region, then another task on the same views."""

import statistics
import time
from typing import Any

import torch

from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.types import Task
from dynrefer.workbench.profiling.machine import heading, provenance, synchronize
from dynrefer.workbench.profiling.workload import Workload, random_config, random_inputs, random_model

CACHE_BYTES = 1 << 30


def measure_repeats(preset: str, device: torch.device, repeats: int) -> tuple[dict[str, Any], str]:
    """Time each task on a new region, then again with its views in the cache. Returns the report and its table."""
    work = Workload()
    loaded = random_model(random_config(preset, work), work, device, torch.float32)
    inputs = {task: random_inputs(loaded.network.config, 1, (task,)) for task in (Task.CATEGORIES, Task.ATTRIBUTES)}
    times: dict[Task, list[tuple[float, float]]] = {task: [] for task in inputs}

    def seconds(task: Task, cache: FeatureCache) -> float:
        synchronize(device)
        started = time.perf_counter()
        run_batch(loaded, inputs[task], cache)
        synchronize(device)
        return time.perf_counter() - started

    for number in range(repeats + 1):
        for task, pairs in times.items():
            cache = FeatureCache(CACHE_BYTES)
            first = seconds(task, cache)
            again = seconds(task, cache)
            if number:  # the first round warms up
                pairs.append((first, again))
    report: dict[str, Any] = {**provenance(device), "preset": preset, "rows": []}
    lines = [heading(report), "", "| task | first, ms | representation known, ms | ratio |", "|---|---|---|---|"]
    for task, pairs in times.items():
        first, again = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        report["rows"].append(
            {"task": str(task), "first_ms": round(first, 2), "again_ms": round(again, 2), "ratio": round(ratio, 1)}
        )
        lines.append(f"| {task} | {first:.1f} | {again:.2f} | {ratio:.0f} |")
    return report, "\n".join(lines)
