"""`python -m benchmarks.scale_out.batches`: what a replica's batch takes by itself, and what is sent for it. JSON.

In a process of its own with one thread, as a replica has: seconds of `run` on n regions of one image, all four outputs,
alone on the machine, or beside its like; processor seconds of decoding and cutting; pickled bytes of a region.
"""

from __future__ import annotations

import json
import pickle
import random
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.offline import SCENE, random_boxes
from dynrefer import model
from dynrefer.model import RegionQuery
from dynrefer.service import set_thread_environment

SIZES = (1, 2, 4, 8, 16)
REPEATS = 7


def measured(processes: int = 1) -> dict[str, Any]:
    """In so many new processes at the same time: the median over them. With more processes than cores, these are the
    processor seconds of a busy machine, whose caches they share."""
    command = [sys.executable, "-m", "benchmarks.scale_out.batches"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    found = [json.loads(each.communicate()[0]) for each in running]
    if any(each.returncode for each in running):
        raise SystemExit("a batch could not be measured; see above.")
    return {
        name: {size: round(statistics.median(each[name][size] for each in found), 4) for size in values}
        for name, values in found[0].items()
    }


def _measure() -> dict[str, Any]:
    import torch

    from dynrefer.model import DynRefer

    torch.set_num_threads(1)
    predictor, rng = DynRefer.load("embedded", device="cpu"), random.Random(1)

    def prepared(count: int) -> tuple[list[Any], float]:
        """Regions, and the processor seconds that they took."""
        spent = time.process_time()
        pixels = model.upright_pixels(SCENE)
        height, width = pixels.shape[:2]
        boxes = random_boxes(count, rng)
        queries = [RegionQuery((a * width, b * height, c * width, d * height)) for a, b, c, d in boxes]
        return predictor.prepare(pixels, queries), time.process_time() - spent

    batch_s, batch_core_s, prepare_s, finish_s, sent = {}, {}, {}, {}, {}
    predictor.run(prepared(4)[0])
    for size in SIZES:
        runs, cores, cuts, ends = [], [], [], []
        for _ in range(REPEATS):
            regions, cut = prepared(size)
            began, spent = time.perf_counter(), time.process_time()
            outputs = predictor.run(regions)
            runs.append(time.perf_counter() - began)
            cores.append(time.process_time() - spent)
            spent = time.process_time()
            for region, output in zip(regions, outputs, strict=True):
                predictor.finish(region, output)
            ends.append(time.process_time() - spent)
            cuts.append(cut)
        name = str(size)
        batch_s[name], batch_core_s[name] = (round(statistics.median(each), 4) for each in (runs, cores))
        prepare_s[name], finish_s[name] = (round(statistics.median(each), 4) for each in (cuts, ends))
        sent[name] = len(pickle.dumps(regions, 5))
    return {
        "batch_s": batch_s,
        "batch_core_s": batch_core_s,
        "decode_and_cut_core_s": prepare_s,
        "finish_core_s": finish_s,
        "pickled_bytes": sent,
    }


if __name__ == "__main__":
    set_thread_environment()  # neither NumPy nor torch is loaded yet
    print(json.dumps(_measure()))
