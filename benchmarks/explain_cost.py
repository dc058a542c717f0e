"""`python -m benchmarks.explain_cost`: what an explanation costs, in processor time per region on one thread.

Regions of a drawn scene and of photographs, with all tasks, in batches of sixteen without a cache; each row is the
median over rounds of the ratio to the same batch without an explanation, which is measured beside it. Bytes: of a
region's JSON. Writes results/explain_cost.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from dynrefer.model import DynRefer, Explain, RegionQuery
from dynrefer.model.images import upright_pixels
from dynrefer.service.api.responses import region_answer
from dynrefer.workbench.profiling.machine import provenance

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
RESULT = HERE / "results" / "explain_cost.json"
BATCH = 16
ASKED = {
    "plain": None,
    "candidates": Explain(candidates=True, evidence=False),
    "candidates and evidence": Explain(),
    "all, with thumbnails": Explain(thumbnails=True),
}


def boxes(width: int, height: int) -> list[tuple[float, float, float, float]]:
    """Sixteen boxes of different places and sizes."""
    across, down = width / 8, height / 8
    return [(across * i, down * j, across * (i + 3 + j % 2), down * (j + 4)) for i in range(4) for j in range(4)]


def measure(model: DynRefer, name: str, explain: Explain | None) -> tuple[dict[str, float], int]:
    """Milliseconds per region by step, and the mean size of a region's JSON in bytes."""
    image = upright_pixels(IMAGES / name)
    queries = [RegionQuery(box, explain=explain) for box in boxes(image.shape[1], image.shape[0])[:BATCH]]
    marks = [time.process_time()]
    regions = model.prepare(image, queries)
    marks.append(time.process_time())
    outputs = model.run(regions)
    marks.append(time.process_time())
    found = [model.finish(region, output) for region, output in zip(regions, outputs, strict=True)]
    marks.append(time.process_time())
    size = sum(len(region_answer("0", each, {}).model_dump_json(exclude_none=True)) for each in found) // len(found)
    steps = ("prepare", "run", "finish")
    return {step: (marks[i + 1] - marks[i]) * 1e3 / len(found) for i, step in enumerate(steps)}, size


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description="Measure what explanations cost.")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = DynRefer.load("embedded", device="cpu")
    report: dict[str, Any] = {**provenance(), "batch": BATCH, "rounds": options.rounds}
    for name in ("scene.png", "photograph_coffee.jpg"):
        rows: dict[str, list[dict[str, float]]] = {what: [] for what in ASKED}
        sizes: dict[str, int] = {}
        for _ in range(options.rounds + 1):
            for what, explain in ASKED.items():
                spent, sizes[what] = measure(model, name, explain)
                rows[what].append(spent)
        found = {}
        for what, spents in rows.items():
            kept = spents[1:]  # the first round warms up
            row: dict[str, Any] = {step: round(statistics.median(each[step] for each in kept), 2) for step in kept[0]}
            ratios = [sum(a.values()) / sum(b.values()) for a, b in zip(kept, rows["plain"][1:], strict=True)]
            found[what] = {**row, "times_plain": round(statistics.median(ratios), 3), "json_bytes": sizes[what]}
            print(name, what, found[what], flush=True)
        report[name] = found
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
