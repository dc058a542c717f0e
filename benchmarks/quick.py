"""`make bench`: the embedded model on this machine. Writes results/quick.json and prints a table.

Times are medians of 5; compare rows of one run, not runs: the machine is shared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, gemm_gflops, median_seconds, provenance
from model import DynRefer, RegionQuery, Task
from model.geometry import Box, boxes_towards, integer_crops
from model.pixels import upright_pixels
from model.preprocess import cut_views
from model.views import STEPS, GreyImage, plan_views

RESULT = Path(__file__).parent / "results" / "quick.json"


def model_rows(model: DynRefer, image: Any) -> list[dict[str, Any]]:
    """Regions per second of the bare predictor, everything from crops to records, by batch size and task."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(0)
    rows = []
    for regions in (1, 8, 32):
        corners = rng.uniform(0, 0.5, (regions, 2)) * (width, height)
        sizes = rng.uniform(0.1, 0.5, (regions, 2)) * (width, height)
        boxes = np.concatenate([corners, corners + sizes], axis=1).tolist()
        for task in (None, *Task):
            tasks = None if task is None else (task,)
            queries = [RegionQuery((x1, y1, x2, y2), tasks) for x1, y1, x2, y2 in boxes]
            prepared = model.prepare(image, queries)
            outputs = model.run(prepared)
            seconds = {
                "prepare": median_seconds(lambda queries=queries: model.prepare(image, queries)),  # type: ignore[misc]
                "run": median_seconds(lambda prepared=prepared: model.run(prepared)),  # type: ignore[misc]
            }
            total = sum(seconds.values())
            rows.append(
                {
                    "regions": regions,
                    "tasks": "all" if task is None else str(task),
                    "regions_per_s": round(regions / total, 1),
                    "ms_per_region": round(total / regions * 1e3, 2),
                    "seconds": {name: round(value, 4) for name, value in seconds.items()},
                    "stages_ms": {name: round(value, 1) for name, value in outputs[0].timings_ms.items()},
                }
            )
    return rows


def view_row(image: Any, view_size: int) -> dict[str, Any]:
    """The hash search and the crops of one region, in milliseconds."""
    height, width = image.shape[:2]
    box = Box(width * 0.2, height * 0.3, width * 0.5, height * 0.7)
    grey = GreyImage(image)
    crops = integer_crops(boxes_towards(box.corners, grey.size, (0.0, *STEPS)), grey.size)
    plan = plan_views(grey, box, num_views=3)
    return {
        "image": f"{width}x{height}",
        "hashes_11_ms": round(median_seconds(lambda: grey.hash_bits(crops), 20) * 1e3, 3),
        "search_ms": round(median_seconds(lambda: plan_views(grey, box, num_views=3), 20) * 1e3, 3),
        "grey_once_ms": round(median_seconds(lambda: GreyImage(image).pixels, 20) * 1e3, 3),
        "crops_3_ms": round(median_seconds(lambda: cut_views(image, plan, view_size), 20) * 1e3, 3),
    }


def main() -> None:
    """Measure, write, print."""
    model = DynRefer.load("embedded", device="cpu")
    photo = upright_pixels(ROOT / "docs" / "images" / "chelsea.jpg")
    big = np.tile(photo, (10, 9, 1))  # 3000 x 4059: twelve megapixels
    result = {
        "command": "make bench",
        **provenance(),
        "gemm_gflops_float32": round(gemm_gflops(), 1),
        "model": {"name": model.card.name, "revision": model.card.revision, "parameters": model.card.parameters},
        "rows": model_rows(model, photo),
        "views": [view_row(image, size) for image in (photo, big) for size in (64, 224)],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['processor']}, {result['threads']} threads, {result['gemm_gflops_float32']} GFLOP/s float32")
    print(f"{'regions':>8} {'tasks':>11} {'regions/s':>10} {'ms/region':>10}  stages (ms)")
    for row in result["rows"]:
        stages = ", ".join(f"{name} {value}" for name, value in row["stages_ms"].items())
        print(f"{row['regions']:>8} {row['tasks']:>11} {row['regions_per_s']:>10} {row['ms_per_region']:>10}  {stages}")
    for row in result["views"]:
        print(row)


if __name__ == "__main__":
    main()
