"""`make bench`: the quick set, about twelve minutes on two idle cores. Writes results/*.json and prints tables.

Compare rows of one run, not of two runs: the machine is shared. `python -m benchmarks.quick NAME ...` runs parts of it:
counts, model, plain, attention, embedded, repeats, views, start, agreement, batch_invariance.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynrefer.model import DynRefer, RegionQuery, Task
from dynrefer.model.images import upright_pixels
from dynrefer.workbench.profiling.attention import measure_attention
from dynrefer.workbench.profiling.batch_invariance import measure_batch_invariance
from dynrefer.workbench.profiling.cache_savings import measure_repeats
from dynrefer.workbench.profiling.dtype_agreement import measure_agreement
from dynrefer.workbench.profiling.machine import ROOT, gemm_gflops, heading, median_seconds, provenance
from dynrefer.workbench.profiling.model_speed import DTYPES, Plan, measure_model, model_table
from dynrefer.workbench.profiling.operation_counts import count_presets
from dynrefer.workbench.profiling.startup import measure_start
from tests.model.reference_batch import reference_batch

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
Report = tuple[dict[str, Any], str]


def counts() -> Report:
    """Operations, bytes and roofline bounds of one region."""
    return count_presets(regions=1, tokens=20, beams=2)


def model() -> Report:
    """The medium preset in both dtypes: all outputs at 1, 8 and 32 regions; tags alone at 32."""
    dtypes = ("float32", "bfloat16")
    report = measure_model(Plan("medium", (1, 8, 32), dtypes, ("all",), CPU), None, _log)
    report["rows"] += measure_model(Plan("medium", (32,), dtypes, ("tags",), CPU), None, _log)["rows"]
    return report, model_table(report)


def plain() -> Report:
    """The optimised path and the tests' reference path, in turn."""
    report = measure_model(Plan("medium", (8,), ("float32",), ("all",), CPU), reference_batch, _log)
    return report, model_table(report)


def attention() -> Report:
    """Every attention call of the medium preset by every kernel, in both dtypes."""
    (report, table), (bfloat16, more) = (measure_attention("medium", 8, dtype, CPU, 15) for dtype in DTYPES.values())
    return {**report, "rows": report["rows"] + bfloat16["rows"]}, f"{table}\n\n{more}"


def repeats() -> Report:
    """Another task on a region whose features are cached, medium preset."""
    return measure_repeats("medium", CPU, 5)


def views() -> Report:
    """Hashes and crops of one region, in a process of its own with one thread."""
    kept = ("--out", str(RESULTS / "views.json"), "--overwrite")
    command = [sys.executable, "-m", "dynrefer.service.cli", "bench", "views", *kept]
    table = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads((RESULTS / "views.json").read_text()), table


def start() -> Report:
    """From the start of the process to ready."""
    return measure_start("embedded", 5)


def agreement() -> Report:
    """bfloat16 against float32, embedded model."""
    return measure_agreement(600)


def batch_invariance() -> Report:
    """Each region alone and in batches, embedded model."""
    return measure_batch_invariance(200)


def embedded() -> Report:
    """Regions per second of the embedded model, from prepare to run, by batch size and task."""
    predictor = DynRefer.load("embedded", device="cpu")
    image = upright_pixels(ROOT / "docs" / "images" / "chelsea.jpg")
    rng = np.random.default_rng(0)
    rows = []
    for regions in (1, 8, 32):
        corners = rng.uniform(0, 0.5, (regions, 2)) * image.shape[1::-1]
        boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.5, (regions, 2)) * image.shape[1::-1]], axis=1)
        for task in (None, *Task):
            tasks = None if task is None else (task,)
            rows.append(_embedded_row(predictor, image, [RegionQuery((*box,), tasks) for box in boxes.tolist()]))
    card = predictor.card
    report = {
        **provenance(),
        "gemm_gflops_float32": round(gemm_gflops(), 1),
        "model": {"name": card.name, "revision": card.revision, "parameters": card.parameters},
        "rows": rows,
    }
    lines = [heading(report), "", "| regions | tasks | regions/s | stages, ms |", "|---|---|---|---|"]
    for row in rows:
        stages = ", ".join(f"{name} {value}" for name, value in row["stages_ms"].items())
        lines.append(f"| {row['regions']} | {row['tasks']} | {row['regions_per_s']} | {stages} |")
    return report, "\n".join(lines)


def _embedded_row(predictor: DynRefer, image: Any, queries: list[RegionQuery]) -> dict[str, Any]:
    prepared = predictor.prepare(image, queries)
    outputs = predictor.run(prepared)
    seconds = {
        "prepare": median_seconds(lambda: predictor.prepare(image, queries)),
        "run": median_seconds(lambda: predictor.run(prepared)),
    }
    tasks = queries[0].tasks
    return {
        "regions": len(queries),
        "tasks": "all" if tasks is None else str(tasks[0]),
        "regions_per_s": round(len(queries) / sum(seconds.values()), 1),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "stages_ms": {name: round(value, 1) for name, value in outputs[0].timings_ms.items()},
    }


SET: dict[str, Callable[[], Report]] = {
    each.__name__: each
    for each in (counts, model, plain, attention, embedded, repeats, views, start, agreement, batch_invariance)
}


def _log(line: str) -> None:
    print(line, file=sys.stderr)


def main(arguments: list[str]) -> None:
    """Measure the named parts, or all; write and print the results."""
    names = [argument.replace("-", "_") for argument in arguments]  # as in the names of `dynrefer bench`
    if unknown := [name for name in names if name not in SET]:
        raise SystemExit(f"quick: there is no part {unknown[0]!r}; choose from {', '.join(SET)}.")
    RESULTS.mkdir(exist_ok=True)
    for name in names or SET:
        report, table = SET[name]()
        command = "make bench" if not names else f"python -m benchmarks.quick {name}"
        text = json.dumps({**report, "command": command}, indent=1)
        (RESULTS / f"{name}.json").write_text(text + "\n")
        print(f"\n## {name}\n\n{table}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
