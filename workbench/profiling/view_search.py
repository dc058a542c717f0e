"""The view search (perceptual hashes) and the crops of one region on one core, against Pillow's own crop and resize."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.crops import cut_views
from dynrefer.model.geometry import Box, boxes_towards, integer_crops
from dynrefer.model.views import STEPS, GreyImage, plan_views
from dynrefer.workbench.profiling.machine import heading, provenance

SIZES = ((640, 480), (4000, 3000))
VIEW_SIZE = 224
ROUNDS = 15


def measure_views() -> dict[str, Any]:
    """Median milliseconds, all measurements in turn. Uses one thread from here on."""
    torch.set_num_threads(1)
    return {**provenance(), "view_size": VIEW_SIZE, "rows": [_row(size) for size in SIZES]}


def views_table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [heading(report), "", "| image | 11 hashes, ms | with greyscale, ms | 3 crops, ms | Pillow, ms | ratio |"]
    lines.append("|---|---|---|---|---|---|")
    for row in report["rows"]:
        lines.append(
            f"| {row['image']} | {row['hashes_ms']} | {row['hashes_of_new_image_ms']} | {row['crops_ms']} "
            f"| {row['pillow_crops_ms']} | {row['crops_ratio']} |"
        )
    return "\n".join(lines)


def _row(size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    image = _photo(size)
    pillow, grey = Image.fromarray(image), GreyImage(image)
    grey.pixels  # noqa: B018  converts all
    box = Box(width * 0.2, height * 0.3, width * 0.5, height * 0.7)
    crops = integer_crops(boxes_towards(box.corners, size, (0.0, *STEPS)), size)
    plan = plan_views(grey, box, num_views=3)
    cut = integer_crops(np.array([view.box for view in plan.views], dtype=np.float32), size).tolist()
    hashes, new, ours, theirs = _in_turn(
        (
            lambda: _hashes_again(grey, crops),
            lambda: GreyImage(image).hash_bits(crops),
            lambda: cut_views(image, plan, VIEW_SIZE),
            lambda: [pillow.crop(each).resize((VIEW_SIZE, VIEW_SIZE), Image.Resampling.BICUBIC) for each in cut],
        )
    )
    return {
        "image": f"{width} x {height}",
        "hashes_ms": round(statistics.median(hashes), 3),
        "hashes_of_new_image_ms": round(statistics.median(new), 3),
        "crops_ms": round(statistics.median(ours), 3),
        "pillow_crops_ms": round(statistics.median(theirs), 3),
        "crops_ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2),
    }


def _hashes_again(grey: GreyImage, crops: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The hash bits of crops of a converted image, found anew: a large image keeps those of crops it has hashed."""
    grey._gathered_crops.clear()
    return grey.hash_bits(crops)


def _in_turn(calls: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Processor milliseconds of this thread, per call and round, after a warm-up round."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(ROUNDS + 1):
        for call, found in zip(calls, times, strict=True):
            started = time.thread_time()
            call()
            if number:
                found.append((time.thread_time() - started) * 1e3)
    return times


def _photo(size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image with structure at several scales, (H, W, 3)."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    waves = [np.sin(x / (7 + 9 * c)) * 50 + np.cos((x + 2 * y) / (41 - 9 * c)) * 50 for c in range(3)]
    noise = np.random.default_rng(0).integers(0, 32, (size[1], size[0], 3))
    return (np.stack(waves, axis=-1) + 112 + noise).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    print(json.dumps(measure_views()))
