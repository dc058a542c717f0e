"""The service as a process, with a random model of the measured size, under several kinds of load."""

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz import memory_mb, service
from benchmarks.gpu_check.clients import Group, Load, send
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.core_seconds import core_seconds
from benchmarks.gpu_check.figures import Figure
from benchmarks.gpu_check.model_directory import write_model
from benchmarks.gpu_check.reloads import reloads, write_keys

MOST_REGIONS = 128  # of the largest request
WIDTH, HEIGHT = 600, 400  # of the image
FIRST, SECOND = "first", "second"  # names of model directories
# What requests may ask for beside their outputs.
ASKED_MORE: Mapping[str, Mapping[str, Any]] = {
    "explained": {"explain": True},
    "own words": {"vocabulary": {"categories": ["otter", "tea pot", "bridge"], "attributes": ["color:red"]}},
    "three captions": {"task": "caption", "num_captions": 3},
}


def measure(given: Conditions) -> Iterator[Figure]:
    """Write the model, serve it, and remove it."""
    models = given.folder / "models"
    try:
        began = time.perf_counter()
        write_model(models / FIRST, given.preset, given.work, given.on)
        (models / SECOND).symlink_to(FIRST)
        yield Figure("service", "writing the random model", time.perf_counter() - began, "s")
        _free_memory(given)
        yield from loads(given, "service", str(models / FIRST), models)
    finally:
        shutil.rmtree(models, ignore_errors=True)


def loads(given: Conditions, part: str, model: str, models: Path | None = None) -> Iterator[Figure]:
    """A service with this model: start, throughput, latency and memory; what it costs to ask for more; other models.

    models: a folder with a second model, of that name.
    """
    image = draw(given.folder / "noise.jpg")
    command = ["dynrefer.service.cli", "serve", "--model", model, "--device", given.device, "--cache-bytes", "0"]
    command += ["--max-regions", str(MOST_REGIONS), "--max-queue-regions", "1024"]
    if models is not None:
        command += ["--admin-keys-file", str(write_keys(given.folder)), "--models-dir", str(models)]
    free, began = _device_free(given), time.perf_counter()
    with service(*command) as (process, address):
        yield Figure(part, "start to ready", time.perf_counter() - began, "s")
        served = _Served(given, part, address, image, process.pid, free)
        yield Figure(part, "memory after load", served.memory_gb(), "GB")
        for group in _groups(given, part):
            yield from served.load(group)
        yield Figure(part, "memory under load", served.memory_gb(), "GB")
        if models is not None:
            yield from served.one_beside_many()
            for name, more in ASKED_MORE.items():
                yield from served.load(Group(4 if given.is_gpu else 1, 4, more=more), name)
            yield from reloads(given, part, address, SECOND, image, served.memory_gb)


@dataclass(frozen=True)
class _Served:
    """A running service. free: of the device's memory before it was started, bytes."""

    given: Conditions
    part: str
    address: str
    image: Path
    pid: int
    free: int

    def load(self, group: Group, name: str = "") -> Iterator[Figure]:
        """Clients in a closed loop: regions per second, percentiles, and the cores that an image takes."""
        name = f"{group.clients} x {group.regions}, {name or group.task or 'all'}"
        # The first seconds, in which libraries choose their kernels, count in no row.
        self._send([group], self.given.load_s / 4)
        before = core_seconds(self.pid)
        found = self._send([group], self.given.load_s)
        spent = core_seconds(self.pid).since(before).per(len(found.answers))
        detail = {"clients": group.clients, "regions": group.regions, "image_bytes": self.image.stat().st_size}
        yield _row(self.part, name, found, detail | {"image_pixels": WIDTH * HEIGHT} | spent)
        yield from self._percentiles(name, found)

    def one_beside_many(self) -> Iterator[Figure]:
        """One region at a time beside requests of the most regions."""
        many = Group(1, MOST_REGIONS if self.given.is_gpu else 16)
        one = self._send([many, Group(1, 1)], self.given.load_s).of(1)
        yield _row(self.part, f"1 beside {many.regions}", one, {})
        yield from self._percentiles(f"1 beside {many.regions}", one)

    def memory_gb(self) -> float:
        """Of the GPU, by what it has less than before; of the process on a CPU."""
        if self.given.is_gpu:
            return (self.free - _device_free(self.given)) / 1e9
        return memory_mb(self.pid) / 1e3

    def _send(self, groups: list[Group], seconds: float) -> Load:
        return send(self.address, self.image, groups, seconds, self.given.folder)

    def _percentiles(self, name: str, found: Load) -> Iterator[Figure]:
        for percent in (50, 99):
            yield Figure(self.part, f"{name}, p{percent}", found.ms(percent), "ms")


def _groups(given: Conditions, part: str) -> tuple[Group, ...]:
    if not given.is_gpu:
        return (Group(1, 2), Group(4, 2), Group(4, 2, "tags"))
    if part == "embedded":
        return (Group(1, 1), Group(1, 8), Group(16, 8))
    every = [Group(clients, 8) for clients in (1, 2, 4, 8, 16, 32)]
    return (Group(1, 1), *every, Group(32, 1), Group(16, 8, "tags"))


def _row(part: str, name: str, found: Load, more: Mapping[str, Any]) -> Figure:
    detail = {"requests": len(found.answers), "failed": found.failed, **more}
    return Figure(part, name, found.regions_per_s, "regions/s", ok=not found.failed, detail=detail)


def draw(path: Path) -> Path:
    """Smooth noise, as a JPEG."""
    if not path.exists():
        coarse = np.random.default_rng(1).integers(0, 256, (11, 16, 3), np.uint8)
        Image.fromarray(coarse).resize((WIDTH, HEIGHT)).save(path, quality=90)
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
