"""What goes wrong on a device: memory that runs out in the middle of requests, and clients that leave.

On a GPU memory is taken away by torch's own limit on the process; on a CPU a batch of many regions fails as if it had.
"""

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpcore2
import torch

from benchmarks.fuzz import service
from benchmarks.gpu_check.clients import HEADERS, body_of
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from benchmarks.gpu_check.service import draw
from benchmarks.offline import random_boxes
from dynrefer.model import DecodedImage, ImageInfo, RegionQuery, batch, continuous
from dynrefer.model.device_memory import CudaMemory
from dynrefer.model.images import upright_pixels
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import RegionInput
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Phase
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.settings import Settings
from dynrefer.service.workers.image_task import DescribeInput
from dynrefer.service.workers.threads import WorkerThreads
from dynrefer.workbench.profiling.model_speed import DTYPES
from dynrefer.workbench.profiling.workload import random_config, random_model

TIMEOUT_S = 60.0
LEAVES_AFTER_S = 0.15
FREE_WITHIN_S = 20.0
# Batching -> regions that fit, regions that do not; a continuous batch takes newcomers in groups of eight.
SIZES = {"whole": (4, 64), "continuous": (1, 8)}


def measure(given: Conditions) -> Iterator[Figure]:
    """Memory first: it needs no other process."""
    for batching in SIZES:
        yield asyncio.run(out_of_memory(given, batching))
    yield killed_client(given)


async def out_of_memory(given: Conditions, batching: str) -> Figure:
    """Ask for many regions where only few fit at a time: each must be answered, and the cap be lowered."""
    preset, (few, many) = "medium" if given.is_gpu else "embedded", SIZES[batching]
    loaded = random_model(random_config(preset, given.work), given.work, given.on, DTYPES[given.dtype])
    if batching == "whole":
        loaded = replace(loaded, slots=None)
    model = DynRefer(loaded, batching=batching)
    image = upright_pixels(str(draw(given.folder / "noise.jpg")))
    height, width = image.shape[:2]
    boxes = random_boxes(64, random.Random(3))
    queries = [RegionQuery((a * width, b * height, c * width, d * height)) for a, b, c, d in boxes]
    engine, metrics = _engine(model)
    engine.start()
    while engine.phase is not Phase.READY:
        await asyncio.sleep(0.02)
    prepared = model.prepare(image, queries[:many])
    decoded = DecodedImage(image, ImageInfo(width, height))
    request = DescribeInput(len(queries), b"", lambda data, on_header: decoded, lambda info: queries)
    full = _metric(metrics, "dynrefer_batch_cap_regions")
    with _short_of_memory(given, lambda count: model.run(prepared[:count]), few, many):
        context = RequestContext("req", None, TIMEOUT_S, time.monotonic() + TIMEOUT_S, time.perf_counter())
        answered = await engine.describe(request, context)
        regions = len(answered.regions)
    cap, counted = _metric(metrics, "dynrefer_batch_cap_regions"), _metric(metrics, "dynrefer_device_oom_total")
    await engine.stop(grace_s=10)
    text = f"{regions} of {len(queries)} regions answered, {counted:g} times short of memory, cap {full:g} -> {cap:g}"
    detail = {"answered": regions, "times": counted, "cap_before": full, "cap_after": cap}
    ok = regions == len(queries) and counted > 0 and cap < full
    return Figure("faults", f"out of memory, {batching} batches", text, ok=ok, detail=detail)


@contextlib.contextmanager
def _short_of_memory(given: Conditions, run: Callable[[int], object], few: int, many: int) -> Iterator[None]:
    """So that the device has memory for `few` regions at a time and not for `many`."""
    if not given.is_gpu:
        with _failing_beyond(few):
            yield
        return
    memory, number = CudaMemory(given.on), index_of(given.on)
    least, most = memory.taken_by(lambda: run(few)), memory.taken_by(lambda: run(many))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(number).total_memory
    limit = torch.cuda.memory_reserved(number) + (least + most) / 2
    torch.cuda.set_per_process_memory_fraction(limit / total, number)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, number)


def index_of(device: torch.device) -> int:
    """The GPU's number, which torch's limit wants; "cuda" alone is the current one."""
    return torch.cuda.current_device() if device.index is None else device.index


@contextlib.contextmanager
def _failing_beyond(few: int) -> Iterator[None]:
    """Both kinds of batches fail for more inputs, in CUDA's words."""

    def represent(loaded: Any, inputs: list[RegionInput], *rest: Any) -> Any:
        if len(inputs) > few:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(loaded, inputs, *rest)

    original = batch.represent
    with patch.object(batch, "represent", represent), patch.object(continuous, "represent", represent):
        yield


def _engine(model: DynRefer) -> tuple[Engine, Metrics]:
    """In this process, so that its memory can be limited here."""
    settings, metrics = Settings(max_batch_regions=64, max_batch_views=192), Metrics()
    executor = DeviceThread(settings, lambda: model, metrics)
    return Engine(executor, WorkerThreads(2, executor.wait_for_idle_cores, metrics), metrics), metrics


def _metric(metrics: Metrics, name: str) -> float:
    return float(metrics.registry.get_sample_value(name) or 0.0)


def killed_client(given: Conditions) -> Figure:
    """A client that leaves in the middle of a large request: the device is free soon, and the next one is served."""
    image = draw(given.folder / "noise.jpg").read_bytes()
    rng = random.Random(7)
    command = ("dynrefer.service.cli", "serve", "--device", given.device)
    with service(*command) as (process, address):
        one = body_of(image, 1, None, rng)
        httpcore2.request("POST", address + "/v1/describe", headers=HEADERS, content=one)
        before, began = _leave(address, body_of(image, 64, None, rng)), time.monotonic()
        while (left := _regions(address)) and time.monotonic() < began + FREE_WITHIN_S:
            time.sleep(0.02)
        waited = time.monotonic() - began
        answer = httpcore2.request("POST", address + "/v1/describe", headers=HEADERS, content=one)
        served = answer.status == 200 and len(json.loads(answer.content)["regions"]) == 1
        lives = process.poll() is None
    text = f"{before:g} regions waited or ran when it left, none after {waited:.2f} s, the next request "
    text += "answered" if served else f"got {answer.status}"
    detail = {"regions_when_it_left": before, "free_after_s": round(waited, 3), "left": left}
    ok = served and lives and not left and before > 0
    return Figure("faults", "a client killed in the middle of a request", text, ok=ok, detail=detail)


def _leave(address: str, body: bytes) -> float:
    """Send a request, and close the connection once the device may be at work. How many regions were there before."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port)) as connection:
        head = f"POST /v1/describe HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until = time.monotonic() + FREE_WITHIN_S
        while not (seen := _regions(address)) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(LEAVES_AFTER_S)
    return seen


def _regions(address: str) -> float:
    """Waiting for the device, or on it."""
    text = httpcore2.request("GET", address + "/metrics").content.decode()
    names = ("dynrefer_queue_regions ", "dynrefer_device_regions ")
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(names))
