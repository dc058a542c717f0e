"""The service as a process, with a random model of the measured size, under several kinds of load."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.fuzz import memory_mb, service
from benchmarks.gpu_check.clients import Group, Load, send
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from benchmarks.gpu_check.model_directory import write_model

MOST_REGIONS = 128  # of the largest request


def measure(given: Conditions) -> Iterator[Figure]:
    """Write the model, serve it, and remove it."""
    model = given.folder / "model"
    try:
        began = time.perf_counter()
        write_model(model, given.preset, given.work, given.on)
        yield Figure("service", "writing the random model", time.perf_counter() - began, "s")
        _free_memory(given)
        yield from loads(given, "service", str(model))
    finally:
        shutil.rmtree(model, ignore_errors=True)


def loads(given: Conditions, part: str, model: str) -> Iterator[Figure]:
    """A service with this model: start, throughput and latency, memory."""
    image = draw(given.folder / "noise.jpg")
    limits = ("--max-regions", str(MOST_REGIONS), "--max-queue-regions", "1024")
    command = (
        "dynrefer.service.cli",
        "serve",
        "--model",
        model,
        "--device",
        given.device,
        "--cache-bytes",
        "0",
        *limits,
    )
    free, began = _device_free(given), time.perf_counter()
    with service(*command) as (process, address):
        yield Figure(part, "start to ready", time.perf_counter() - began, "s")
        yield Figure(part, "memory after load", _memory_gb(given, process.pid, free), "GB")
        for group in _groups(given):
            name = f"{group.clients} x {group.regions}, {group.task or 'all'}"
            # The first seconds, in which libraries choose their kernels, count in no row.
            send(address, image, [group], given.load_s / 4, given.folder)
            found = send(address, image, [group], given.load_s, given.folder)
            yield _row(part, name, found)
            yield Figure(part, f"{name}, p50", found.ms(50), "ms")
            yield Figure(part, f"{name}, p99", found.ms(99), "ms")
        yield Figure(part, "memory under load", _memory_gb(given, process.pid, free), "GB")
        if part == "service":
            many = Group(1, MOST_REGIONS if given.is_gpu else 16)
            both = send(address, image, [many, Group(1, 1)], given.load_s, given.folder)
            yield _row(part, f"1 beside {many.regions}", both.of(1))
            yield Figure(part, f"1 beside {many.regions}, p50", both.of(1).ms(50), "ms")
            yield Figure(part, f"1 beside {many.regions}, p99", both.of(1).ms(99), "ms")


def _groups(given: Conditions) -> tuple[Group, ...]:
    if given.is_gpu:
        return (Group(1, 1), Group(1, 8), Group(16, 8), Group(32, 1), Group(16, 8, "tags"))
    return (Group(1, 2), Group(4, 2), Group(4, 2, "tags"))


def _row(part: str, name: str, found: Load) -> Figure:
    detail = {"requests": len(found.answers), "failed": found.failed}
    return Figure(part, name, found.regions_per_s, "regions/s", ok=not found.failed, detail=detail)


def draw(path: Path) -> Path:
    """Smooth noise of 600 x 400 pixels, as a JPEG."""
    if not path.exists():
        coarse = np.random.default_rng(1).integers(0, 256, (11, 16, 3), np.uint8)
        Image.fromarray(coarse).resize((600, 400)).save(path, quality=90)
    return path


def _free_memory(given: Conditions) -> None:
    """Give the device the memory back that the weights took here."""
    import gc

    import torch

    gc.collect()
    if given.is_gpu:
        torch.cuda.empty_cache()


def _device_free(given: Conditions) -> int:
    if not given.is_gpu:
        return 0
    import torch

    found: int = torch.cuda.mem_get_info(given.on)[0]
    return found


def _memory_gb(given: Conditions, pid: int, free: int) -> float:
    """Of the GPU, by what it has less than before; of the process on a CPU."""
    return (free - _device_free(given)) / 1e9 if given.is_gpu else memory_mb(pid) / 1e3
