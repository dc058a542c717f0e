"""What a cache saves: the first question about a region, and another one about the same views."""

import statistics
import time
from typing import Any

import torch

from dynrefer.model.batch import FeatureCache, run_batch
from dynrefer.model.types import Task
from dynrefer.workbench.profiling.machine import provenance, wait_for
from dynrefer.workbench.profiling.report_tables import heading
from dynrefer.workbench.profiling.workload import Workload, random_config, random_inputs, random_model

ROOM = 1 << 30


def measure_repeats(preset: str, device: torch.device, repeats: int) -> tuple[dict[str, Any], str]:
    """Tags of one region never seen, then categories and attributes of the same views: report and table."""
    work = Workload()
    loaded = random_model(random_config(preset, work), work, device, torch.float32)
    asked = {task: random_inputs(loaded.network.config, 1, (task,)) for task in (Task.CATEGORIES, Task.ATTRIBUTES)}
    times: dict[Task, list[tuple[float, float]]] = {task: [] for task in asked}

    def seconds(task: Task, memory: FeatureCache) -> float:
        wait_for(device)
        started = time.perf_counter()
        run_batch(loaded, asked[task], memory)
        wait_for(device)
        return time.perf_counter() - started

    for number in range(repeats + 1):
        for task, pairs in times.items():
            memory = FeatureCache(ROOM)
            first = seconds(task, memory)
            again = seconds(task, memory)
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
