"""What a model that was replaced leaves behind on a GPU, in one process without a service: the memory that torch's
allocator holds after each switch, with its default segments and with expandable ones. Only on a GPU."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.curve import continuous
from benchmarks.gpu_check.figures import Figure
from dynrefer.model import release_memory
from dynrefer.model.predictor import DynRefer
from dynrefer.workbench.profiling.model_speed import DTYPES
from dynrefer.workbench.profiling.workload import random_config, random_model

SETTING = "PYTORCH_CUDA_ALLOC_CONF"  # read by torch once, when CUDA is first used
SEGMENTS = {"default": "", "expandable": "expandable_segments:True"}
SWITCHES = 2


def measure(given: Conditions) -> Iterator[Figure]:
    """Each kind of segments in a process of its own."""
    if not given.is_gpu:
        return
    for name, setting in SEGMENTS.items():
        line = [sys.executable, "-m", "benchmarks.gpu_check.kept_memory", given.device, given.preset, str(given.folder)]
        environment = {**os.environ, SETTING: setting}
        done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for row in done.stdout.splitlines():
            when, allocated, reserved = row.split("\t")
            detail = {"allocated_gb": float(allocated)}
            yield Figure("kept_memory", f"{name} segments, {when}", float(reserved), "GB reserved", detail=detail)


def switches(given: Conditions) -> Iterator[tuple[str, float, float]]:
    """When, and bytes that tensors and the allocator hold: of one model, of two, and after the first has ended."""
    serving = _model(given)
    yield ("one model", *_held(given))
    for number in range(1, SWITCHES + 1):
        following = _model(given)
        yield (f"switch {number}, both models", *_held(given))
        serving = following
        del following
        release_memory()
        yield (f"switch {number}, the first ended", *_held(given))
    del serving


def _model(given: Conditions) -> DynRefer:
    loaded = random_model(random_config(given.preset, given.work), given.work, given.on, DTYPES[given.dtype])
    model = DynRefer(loaded, batching="continuous")
    model.batch_limits()
    continuous(given, loaded, given.curve_batches[-1], "all")
    return model


def _held(given: Conditions) -> tuple[float, float]:
    torch.cuda.synchronize(given.on)
    return torch.cuda.memory_allocated(given.on), torch.cuda.memory_reserved(given.on)


if __name__ == "__main__":
    for name, allocated, reserved in switches(Conditions(sys.argv[1], sys.argv[2], Path(sys.argv[3]))):
        print(f"{name}\t{allocated / 1e9:.3f}\t{reserved / 1e9:.3f}")
